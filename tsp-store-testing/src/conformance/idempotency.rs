//! Answers kept under an idempotency key (API.md section 1).

use bytes::Bytes;
use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::{Name, Timestamp};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, Hold, NewApp, SaveConfig};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::tasks::{Submit, SubmitOutcome};

use super::fixture::{Fixture, T0, at, by, spec};

fn answer(body: &str) -> StoredAnswer {
    let body = Bytes::from(body.to_owned());
    StoredAnswer { status: 201, body, location: Some("/api/v1/tasks/1".to_owned()) }
}

/// Keeps the id of a created task until a minute after [`T0`].
fn request(hash: u8, body: u8) -> IdempotencyRequest<SubmitOutcome> {
    IdempotencyRequest {
        hash: [hash; 32],
        body_hash: [body; 32],
        expires_at: at(60),
        render: Box::new(|submitted| match submitted {
            SubmitOutcome::Created(task) => Some(answer(&task.id.to_string())),
            _ => None,
        }),
    }
}

async fn submit(
    fixture: &Fixture,
    config: &TaskConfig,
    idempotency: IdempotencyRequest<SubmitOutcome>,
    now: Timestamp,
) -> IdempotencyResult<SubmitOutcome> {
    let task = fixture.new_task(config, None, T0);
    let submit = Submit {
        task,
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: Some(idempotency),
    };
    fixture.store.submit(vec![submit], now).await.expect("submit").remove(0)
}

async fn fresh(
    fixture: &Fixture,
    config: &TaskConfig,
    idempotency: IdempotencyRequest<SubmitOutcome>,
    now: Timestamp,
) -> String {
    match submit(fixture, config, idempotency, now).await {
        IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => task.id.to_string(),
        other => panic!("the key is new, so this is the call's own answer: {other:?}"),
    }
}

/// The same request gets the first answer, byte for byte, and makes nothing.
pub(super) async fn a_repeat_gets_the_stored_answer(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let id = fresh(fixture, &config, request(1, 1), T0).await;
    for now in [T0, at(59)] {
        assert_eq!(
            submit(fixture, &config, request(1, 1), now).await,
            IdempotencyResult::Replayed(answer(&id))
        );
    }
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 1, "a repeat makes no task");
}

pub(super) async fn another_body_is_a_mismatch(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let id = fresh(fixture, &config, request(1, 1), T0).await;
    assert_eq!(submit(fixture, &config, request(1, 2), T0).await, IdempotencyResult::Mismatch);
    assert_eq!(
        submit(fixture, &config, request(1, 1), T0).await,
        IdempotencyResult::Replayed(answer(&id)),
        "the first stays"
    );
    fresh(fixture, &config, request(2, 2), T0).await;
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 2);
}

/// After its time a key is new, dropped or not.
pub(super) async fn an_expired_key_is_new(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fresh(fixture, &config, request(1, 1), T0).await;
    let renewed = IdempotencyRequest { expires_at: at(120), ..request(1, 2) };
    let second = fresh(fixture, &config, renewed, at(60)).await;
    assert_ne!(first, second);
    assert_eq!(
        submit(fixture, &config, request(1, 2), at(61)).await,
        IdempotencyResult::Replayed(answer(&second))
    );
}

/// A refusal is not kept, so the caller may try again with the same key.
pub(super) async fn a_refusal_is_not_kept(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.hold(config.id, Hold::Disable).await;
    let refused = submit(fixture, &config, request(1, 1), T0).await;
    assert_eq!(refused, IdempotencyResult::Fresh(SubmitOutcome::ConfigDisabled));
    fixture.hold(config.id, Hold::Enable).await;
    fresh(fixture, &config, request(1, 1), T0).await;
}

/// The answer counts although its task has changed: the request was answered.
pub(super) async fn a_stored_answer_outlives_what_it_spoke_of(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let id = fresh(fixture, &config, request(1, 1), T0).await;
    fixture.hold(config.id, Hold::Disable).await;
    assert_eq!(submit(fixture, &config, request(1, 1), T0).await, IdempotencyResult::Replayed(answer(&id)));
}

/// Element by element, also for the same key twice in one batch.
pub(super) async fn elements_of_a_batch_have_their_own_keys(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let batch = [request(1, 1), request(2, 1), request(1, 1), request(2, 9)].map(|idempotency| Submit {
        task: fixture.new_task(&config, None, T0),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: Some(idempotency),
    });
    let first = batch[0].task.id.to_string();
    let answers = fixture.store.submit(Vec::from(batch), T0).await.expect("submit");
    assert!(matches!(answers[0], IdempotencyResult::Fresh(SubmitOutcome::Created(_))), "{:?}", answers[0]);
    assert!(matches!(answers[1], IdempotencyResult::Fresh(SubmitOutcome::Created(_))), "{:?}", answers[1]);
    assert_eq!(answers[2], IdempotencyResult::Replayed(answer(&first)));
    assert_eq!(answers[3], IdempotencyResult::Mismatch);
}

/// Apps and configs keep their answers alike.
pub(super) async fn apps_and_configs_are_kept_too(fixture: &Fixture) {
    let store = &fixture.store;
    let request_app = || IdempotencyRequest {
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
    let made = store.create_app(new(), Some(request_app()), &by(), T0).await.expect("create_app");
    assert!(matches!(made, IdempotencyResult::Fresh(AppSaved::Saved(_))), "{made:?}");
    let again = store.create_app(new(), Some(request_app()), &by(), T0).await.expect("create_app");
    assert_eq!(again, IdempotencyResult::Replayed(answer("app")));

    let request_config = || IdempotencyRequest {
        hash: [2; 32],
        body_hash: [1; 32],
        expires_at: at(60),
        render: Box::new(|saved: &ConfigSaved| {
            matches!(saved, ConfigSaved::Created(_)).then(|| answer("config"))
        }),
    };
    let save =
        || SaveConfig { app: fixture.app, spec: spec("close-order"), expected: ExpectedVersion::Absent };
    let made = store.save_config(save(), Some(request_config()), &by(), T0).await.expect("save_config");
    assert!(matches!(made, IdempotencyResult::Fresh(ConfigSaved::Created(_))), "{made:?}");
    let again = store.save_config(save(), Some(request_config()), &by(), T0).await.expect("save_config");
    assert_eq!(again, IdempotencyResult::Replayed(answer("config")));
}
