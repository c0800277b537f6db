//! Answers kept under an idempotency key (API.md section 1).

use bytes::Bytes;
use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::{Name, Timestamp};

use super::bed::{Bed, T0, at, by, spec};
use crate::catalog::{AppSaved, ConfigSaved, Expected, Hold, NewApp, SaveConfig};
use crate::idempotency::{Keep, Kept, StoredAnswer};
use crate::tasks::{Submit, Submitted};

fn answer(body: &str) -> StoredAnswer {
    let body = Bytes::from(body.to_owned());
    StoredAnswer { status: 201, body, location: Some("/api/v1/tasks/1".to_owned()) }
}

/// Keeps the id of a created task until a minute after [`T0`].
fn keep(hash: u8, body: u8) -> Keep<Submitted> {
    Keep {
        hash: [hash; 32],
        body_hash: [body; 32],
        expires_at: at(60),
        render: Box::new(|submitted| match submitted {
            Submitted::Created(task) => Some(answer(&task.id.to_string())),
            _ => None,
        }),
    }
}

async fn submit(bed: &Bed, config: &TaskConfig, keep: Keep<Submitted>, now: Timestamp) -> Kept<Submitted> {
    let task = bed.new_task(config, None, T0);
    let submit = Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, keep: Some(keep) };
    bed.store.submit(vec![submit], now).await.expect("submit").remove(0)
}

async fn fresh(bed: &Bed, config: &TaskConfig, keep: Keep<Submitted>, now: Timestamp) -> String {
    match submit(bed, config, keep, now).await {
        Kept::Fresh(Submitted::Created(task)) => task.id.to_string(),
        other => panic!("the key is new, so this is the call's own answer: {other:?}"),
    }
}

/// The same request gets the first answer, byte for byte, and makes nothing.
pub(super) async fn a_repeat_gets_the_kept_answer(bed: &Bed) {
    let config = bed.config("close-order").await;
    let id = fresh(bed, &config, keep(1, 1), T0).await;
    for now in [T0, at(59)] {
        assert_eq!(submit(bed, &config, keep(1, 1), now).await, Kept::Replayed(answer(&id)));
    }
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 1, "a repeat makes no task");
}

pub(super) async fn another_body_is_a_mismatch(bed: &Bed) {
    let config = bed.config("close-order").await;
    let id = fresh(bed, &config, keep(1, 1), T0).await;
    assert_eq!(submit(bed, &config, keep(1, 2), T0).await, Kept::Mismatch);
    assert_eq!(submit(bed, &config, keep(1, 1), T0).await, Kept::Replayed(answer(&id)), "the first stays");
    fresh(bed, &config, keep(2, 2), T0).await;
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 2);
}

/// After its time a key is new, pruned or not.
pub(super) async fn an_expired_key_is_new(bed: &Bed) {
    let config = bed.config("close-order").await;
    let first = fresh(bed, &config, keep(1, 1), T0).await;
    let renewed = Keep { expires_at: at(120), ..keep(1, 2) };
    let second = fresh(bed, &config, renewed, at(60)).await;
    assert_ne!(first, second);
    assert_eq!(submit(bed, &config, keep(1, 2), at(61)).await, Kept::Replayed(answer(&second)));
}

/// A refusal is not kept, so the caller may try again with the same key.
pub(super) async fn a_refusal_is_not_kept(bed: &Bed) {
    let config = bed.config("close-order").await;
    bed.hold(config.id, Hold::Disable).await;
    let refused = submit(bed, &config, keep(1, 1), T0).await;
    assert_eq!(refused, Kept::Fresh(Submitted::ConfigDisabled));
    bed.hold(config.id, Hold::Enable).await;
    fresh(bed, &config, keep(1, 1), T0).await;
}

/// The answer counts although the world has moved on: the request was answered.
pub(super) async fn a_kept_answer_outlives_what_it_spoke_of(bed: &Bed) {
    let config = bed.config("close-order").await;
    let id = fresh(bed, &config, keep(1, 1), T0).await;
    bed.hold(config.id, Hold::Disable).await;
    assert_eq!(submit(bed, &config, keep(1, 1), T0).await, Kept::Replayed(answer(&id)));
}

/// Element by element, also for the same key twice in one batch.
pub(super) async fn elements_of_a_batch_have_their_own_keys(bed: &Bed) {
    let config = bed.config("close-order").await;
    let batch = [keep(1, 1), keep(2, 1), keep(1, 1), keep(2, 9)].map(|keep| Submit {
        task: bed.new_task(&config, None, T0),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        keep: Some(keep),
    });
    let first = batch[0].task.id.to_string();
    let answers = bed.store.submit(Vec::from(batch), T0).await.expect("submit");
    assert!(matches!(answers[0], Kept::Fresh(Submitted::Created(_))), "{:?}", answers[0]);
    assert!(matches!(answers[1], Kept::Fresh(Submitted::Created(_))), "{:?}", answers[1]);
    assert_eq!(answers[2], Kept::Replayed(answer(&first)));
    assert_eq!(answers[3], Kept::Mismatch);
}

/// Apps and configs keep their answers alike.
pub(super) async fn apps_and_configs_are_kept_too(bed: &Bed) {
    let store = &bed.store;
    let keep_app = || Keep {
        hash: [1; 32],
        body_hash: [1; 32],
        expires_at: at(60),
        render: Box::new(|saved: &AppSaved| matches!(saved, AppSaved::Saved(_)).then(|| answer("app"))),
    };
    let new = || NewApp {
        name: Name::new("logistics").expect("a good name"),
        description: String::new(),
        owner: String::new(),
    };
    let made = store.create_app(new(), Some(keep_app()), &by(), T0).await.expect("create_app");
    assert!(matches!(made, Kept::Fresh(AppSaved::Saved(_))), "{made:?}");
    let again = store.create_app(new(), Some(keep_app()), &by(), T0).await.expect("create_app");
    assert_eq!(again, Kept::Replayed(answer("app")));

    let keep_config = || Keep {
        hash: [2; 32],
        body_hash: [1; 32],
        expires_at: at(60),
        render: Box::new(|saved: &ConfigSaved| {
            matches!(saved, ConfigSaved::Created(_)).then(|| answer("config"))
        }),
    };
    let save = || SaveConfig { app: bed.app, spec: spec("close-order"), expected: Expected::Absent };
    let made = store.save_config(save(), Some(keep_config()), &by(), T0).await.expect("save_config");
    assert!(matches!(made, Kept::Fresh(ConfigSaved::Created(_))), "{made:?}");
    let again = store.save_config(save(), Some(keep_config()), &by(), T0).await.expect("save_config");
    assert_eq!(again, Kept::Replayed(answer("config")));
}
