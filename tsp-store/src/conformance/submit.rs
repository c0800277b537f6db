//! Submit: what is answered is stored, and seen by everyone at once.

use tsp_core::ShardId;
use tsp_core::config::{ConfigSpec, OnDuplicateKey};
use tsp_core::key::config_shard;
use tsp_core::task::{Status, Task};

use super::bed::{Bed, T0, assert_same, at, key, spec};
use crate::catalog::{Expected, Hold};
use crate::error::StoreError;
use crate::idempotency::Kept;
use crate::schedule::Head;
use crate::tasks::{Submit, Submitted};

/// Read by id, by key, as head, and in the sums, as soon as it is answered.
pub(super) async fn a_created_task_is_seen_at_once(bed: &Bed) {
    let config = bed.config("close-order").await;
    let new = bed.new_task(&config, Some("order-42"), at(60));
    let sent = new.clone();
    let task = bed.create(new).await;
    assert_same(&task, &sent, "the task is created as it was sent");
    bed.check_stored(&sent).await;
    let key = sent.key.as_ref().expect("it has a key");
    let by_key = bed.store.task_by_key(config.id, key).await.expect("task_by_key");
    assert_same(&by_key.expect("found by its key"), &sent, "by key");
    let heads = bed.store.heads().await.expect("heads");
    assert_eq!(heads, [Head { config: config.id, due_at: at(60) }]);
    assert_eq!(bed.store.next_due().await.expect("next_due"), Some(at(60)));
    let audit = bed.store.audit(T0).await.expect("audit");
    assert_eq!((audit.accepted, audit.ended, audit.open), (1, 0, vec![(Status::Scheduled, 1)]));
}

/// Headers, retry, traceparent, expiry: nothing of a row is lost.
pub(super) async fn every_field_comes_back(bed: &Bed) {
    let config = bed.config("close-order").await;
    let mut task = bed.new_task(&config, Some("order-42"), at(60));
    task.expire_after = Some(tsp_core::Millis::from_ms(1_234));
    task.origin = tsp_core::task::Origin::Run;
    let extra = task.extra_mut();
    extra.headers.insert("X-Shop".to_owned(), "7 °".to_owned());
    extra.retry = Some(super::bed::spec("x").retry);
    extra.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let sent = task.clone();
    bed.create(task).await;
    bed.check_stored(&sent).await;
    let claimed = bed.claim(&sent, at(60)).await;
    assert_eq!(claimed.extra, sent.extra, "a claimed row brings all that a worker needs");
    let begun = bed.begin(&claimed, at(60)).await;
    assert_eq!((begun.extra, begun.payload), (sent.extra, sent.payload));
}

/// In order, each on its own: a refused one does not touch its neighbours.
pub(super) async fn each_element_of_a_batch_stands_alone(bed: &Bed) {
    let good = bed.config("good").await;
    let disabled = bed.config("disabled").await;
    let gone = bed.config("gone").await;
    bed.hold(disabled.id, Hold::Disable).await;
    bed.store.delete_config(gone.id, Expected::Any, &super::bed::by(), T0).await.expect("delete_config");
    let batch = [&good, &disabled, &gone, &good].map(|config| Submit {
        task: bed.new_task(config, None, T0),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        keep: None,
    });
    let ids: Vec<_> = batch.iter().map(|submit| submit.task.id).collect();
    let answers = bed.store.submit(Vec::from(batch), T0).await.expect("submit");
    match &answers[..] {
        [
            Kept::Fresh(Submitted::Created(first)),
            Kept::Fresh(Submitted::ConfigDisabled),
            Kept::Fresh(Submitted::ConfigGone),
            Kept::Fresh(Submitted::Created(last)),
        ] => assert_eq!([first.id, last.id], [ids[0], ids[3]]),
        other => panic!("created, disabled, gone, created in this order: {other:?}"),
    }
    assert!(bed.store.task(ids[1]).await.expect("task").is_none(), "a refused task is not stored");
    assert!(bed.store.task(ids[2]).await.expect("task").is_none(), "a refused task is not stored");
}

/// Pause keeps tasks, so it takes them too; disable refuses them, also by an open key.
pub(super) async fn a_paused_config_takes_tasks_and_a_disabled_one_none(bed: &Bed) {
    let config = bed.config("close-order").await;
    let before = bed.create(bed.new_task(&config, Some("order-1"), T0)).await;
    bed.hold(config.id, Hold::Pause { note: None }).await;
    bed.create(bed.new_task(&config, Some("order-2"), T0)).await;
    bed.hold(config.id, Hold::Disable).await;
    for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
        for key in ["order-1", "order-3"] {
            let answer = bed.submit(bed.new_task(&config, Some(key), T0), policy).await;
            assert_eq!(answer, Submitted::ConfigDisabled, "{key} with {policy:?}");
        }
    }
    bed.check_stored(&before).await;
    bed.hold(config.id, Hold::Enable).await;
    bed.create(bed.new_task(&config, Some("order-3"), T0)).await;
}

/// What is not there is not found, and nothing is due in an empty store.
pub(super) async fn an_empty_store_has_nothing(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.new_task(&config, Some("order-42"), T0);
    assert_eq!(bed.store.task(task.id).await.expect("task"), None);
    let key = task.key.as_ref().expect("it has a key");
    assert_eq!(bed.store.task_by_key(config.id, key).await.expect("task_by_key"), None);
    assert!(bed.store.attempts(task.id).await.expect("attempts").is_empty());
    assert!(bed.store.heads().await.expect("heads").is_empty());
    assert!(bed.store.in_flight(None, 1_000).await.expect("in_flight").rows.is_empty());
    assert!(bed.store.cursors().await.expect("cursors").is_empty());
    assert_eq!(bed.store.next_due().await.expect("next_due"), None);
    assert_eq!(bed.store.next_deadline().await.expect("next_deadline"), None);
}

/// The answer of the first was lost, so it is sent again: the same task, open or ended (DESIGN.md section 6).
pub(super) async fn the_same_id_again_is_the_same_task(bed: &Bed) {
    let config = bed.config("close-order").await;
    for key in [None, Some("order-42")] {
        let new = bed.new_task(&config, key, T0);
        bed.create(new.clone()).await;
        for end in [false, true] {
            if end {
                bed.changed(new.id, crate::tasks::Wish::Cancel, T0).await;
            }
            match bed.submit(new.clone(), OnDuplicateKey::Ignore).await {
                Submitted::Created(task) => assert_eq!(task.id, new.id),
                other => panic!("it was created by this id: {other:?}"),
            }
        }
    }
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 2, "a repeat makes no task");
}

/// An id is given out once: a task with that of another one is a fault of ours, and changes nothing.
pub(super) async fn an_id_of_another_task_fails_its_call(bed: &Bed) {
    let config = bed.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let there = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    for ended in [false, true] {
        if ended {
            bed.changed(there.id, crate::tasks::Wish::Cancel, T0).await;
        }
        for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
            let before = bed.stored(there.id).await;
            let task = Box::new(Task { key: Some(key("order-43")), ..there.clone() });
            let submit = Submit { task, on_duplicate: policy, own_payload: true, keep: None };
            let answer = bed.store.submit(vec![submit], T0).await;
            assert!(matches!(answer, Err(StoreError::Internal(_))), "{policy:?}: {answer:?}");
            bed.check_stored(&before).await;
        }
    }
}

/// A config that takes no tasks is no place to look for one of them.
pub(super) async fn a_refusal_comes_before_the_id(bed: &Bed) {
    let config = bed.config("close-order").await;
    let there = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    bed.hold(config.id, Hold::Disable).await;
    for key in ["order-42", "order-43"] {
        let task = Box::new(Task { key: Some(super::bed::key(key)), ..there.clone() });
        assert_eq!(bed.submit(task, OnDuplicateKey::Ignore).await, Submitted::ConfigDisabled);
    }
}

/// Its id was made before the config's span was changed.
pub(super) async fn a_task_is_made_at_home_alone(bed: &Bed) {
    let config = bed.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let shards = bed.store.shards();
    let away = (config_shard(config.id, shards).get() + 1) % shards;
    let away = ShardId::new(away).expect("below the number of shards");
    for key in [None, Some("order-42")] {
        for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
            let mut task = bed.new_task(&config, key, T0);
            task.id = bed.id(away);
            assert_eq!(bed.submit(task, policy).await, Submitted::NotAtHome);
        }
        bed.create(bed.new_task(&config, key, T0)).await;
    }
    bed.check_sums().await;
}
