//! Submit: what is answered is stored, and seen by everyone at once.

use tsp_core::ShardId;
use tsp_core::config::{ConfigSpec, OnDuplicateKey};
use tsp_core::task::{Status, Task};
use tsp_core::task_key::config_shard;
use tsp_store::catalog::{ExpectedVersion, Hold};
use tsp_store::error::StoreError;
use tsp_store::fetching::EarliestDue;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Submit, SubmitOutcome};

use super::fixture::{Fixture, T0, assert_same, at, key, spec};

/// Read by id, by key, as earliest due time, and in the sums, as soon as it is answered.
pub(super) async fn a_created_task_is_seen_at_once(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let new = fixture.new_task(&config, Some("order-42"), at(60));
    let sent = new.clone();
    let task = fixture.create(new).await;
    assert_same(&task, &sent, "the task is created as it was sent");
    fixture.check_stored(&sent).await;
    let key = sent.key.as_ref().expect("it has a key");
    let by_key = fixture.store.task_by_key(config.id, key).await.expect("task_by_key");
    assert_same(&by_key.expect("found by its key"), &sent, "by key");
    let earliest_due = fixture.store.earliest_due().await.expect("earliest_due");
    assert_eq!(earliest_due, [EarliestDue { config: config.id, due_at: at(60) }]);
    let audit = fixture.store.audit(T0).await.expect("audit");
    assert_eq!((audit.accepted, audit.ended, audit.open), (1, 0, vec![(Status::Scheduled, 1)]));
}

/// Headers, retry, traceparent, expiry: nothing of a row is lost.
pub(super) async fn every_field_comes_back(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut task = fixture.new_task(&config, Some("order-42"), at(60));
    task.expire_after = Some(tsp_core::Millis::from_ms(1_234));
    task.origin = tsp_core::task::Origin::Run;
    let extra = task.extra_mut();
    extra.headers.insert("X-Shop".to_owned(), "7 °".to_owned());
    extra.retry = Some(super::fixture::spec("x").retry);
    extra.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let sent = task.clone();
    fixture.create(task).await;
    fixture.check_stored(&sent).await;
    let claimed = fixture.claim(&sent, at(60)).await;
    assert_eq!(claimed.extra, sent.extra, "a claimed row brings all that a worker needs");
    let begun = fixture.begin(&claimed, at(60)).await;
    assert_eq!((begun.extra, begun.payload), (sent.extra, sent.payload));
}

/// In order, each on its own: a refused one does not touch its neighbours.
pub(super) async fn each_element_of_a_batch_stands_alone(fixture: &Fixture) {
    let good = fixture.config("good").await;
    let disabled = fixture.config("disabled").await;
    let gone = fixture.config("gone").await;
    fixture.hold(disabled.id, Hold::Disable).await;
    fixture
        .store
        .delete_config(gone.id, ExpectedVersion::Any, &super::fixture::by(), T0)
        .await
        .expect("delete_config");
    let batch = [&good, &disabled, &gone, &good].map(|config| Submit {
        task: fixture.new_task(config, None, T0),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: None,
    });
    let ids: Vec<_> = batch.iter().map(|submit| submit.task.id).collect();
    let answers = fixture.store.submit(Vec::from(batch), T0).await.expect("submit");
    match &answers[..] {
        [
            IdempotencyResult::Fresh(SubmitOutcome::Created(first)),
            IdempotencyResult::Fresh(SubmitOutcome::ConfigDisabled),
            IdempotencyResult::Fresh(SubmitOutcome::ConfigGone),
            IdempotencyResult::Fresh(SubmitOutcome::Created(last)),
        ] => assert_eq!([first.id, last.id], [ids[0], ids[3]]),
        other => panic!("created, disabled, gone, created in this order: {other:?}"),
    }
    assert!(fixture.store.task(ids[1]).await.expect("task").is_none(), "a refused task is not stored");
    assert!(fixture.store.task(ids[2]).await.expect("task").is_none(), "a refused task is not stored");
}

/// Pause keeps tasks, so it takes them too; disable refuses them, also by an open key.
pub(super) async fn a_paused_config_takes_tasks_and_a_disabled_one_none(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let before = fixture.create(fixture.new_task(&config, Some("order-1"), T0)).await;
    fixture.hold(config.id, Hold::Pause { note: None }).await;
    fixture.create(fixture.new_task(&config, Some("order-2"), T0)).await;
    fixture.hold(config.id, Hold::Disable).await;
    for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
        for key in ["order-1", "order-3"] {
            let answer = fixture.submit(fixture.new_task(&config, Some(key), T0), policy).await;
            assert_eq!(answer, SubmitOutcome::ConfigDisabled, "{key} with {policy:?}");
        }
    }
    fixture.check_stored(&before).await;
    fixture.hold(config.id, Hold::Enable).await;
    fixture.create(fixture.new_task(&config, Some("order-3"), T0)).await;
}

/// What is not there is not found, and nothing is due in an empty store.
pub(super) async fn an_empty_store_has_nothing(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.new_task(&config, Some("order-42"), T0);
    assert_eq!(fixture.store.task(task.id).await.expect("task"), None);
    let key = task.key.as_ref().expect("it has a key");
    assert_eq!(fixture.store.task_by_key(config.id, key).await.expect("task_by_key"), None);
    assert!(fixture.store.attempts(task.id).await.expect("attempts").is_empty());
    assert!(fixture.store.earliest_due().await.expect("earliest_due").is_empty());
    assert!(fixture.store.in_flight(None, 1_000).await.expect("in_flight").rows.is_empty());
    assert!(fixture.store.cursors().await.expect("cursors").is_empty());
    assert_eq!(fixture.store.next_deadline().await.expect("next_deadline"), None);
}

/// The answer of the first was lost, so it is sent again: the same task, open or ended (DESIGN.md section 6).
pub(super) async fn the_same_id_again_is_the_same_task(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for key in [None, Some("order-42")] {
        let new = fixture.new_task(&config, key, T0);
        fixture.create(new.clone()).await;
        for end in [false, true] {
            if end {
                fixture.changed(new.id, tsp_store::tasks::TaskCommand::Cancel, T0).await;
            }
            match fixture.submit(new.clone(), OnDuplicateKey::Ignore).await {
                SubmitOutcome::Created(task) => assert_eq!(task.id, new.id),
                other => panic!("it was created by this id: {other:?}"),
            }
        }
    }
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 2, "a repeat makes no task");
}

/// An id is given out once: a task with that of another one is a fault of ours, and changes nothing.
pub(super) async fn an_id_of_another_task_fails_its_call(fixture: &Fixture) {
    let config = fixture.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let there = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    for ended in [false, true] {
        if ended {
            fixture.changed(there.id, tsp_store::tasks::TaskCommand::Cancel, T0).await;
        }
        for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
            let before = fixture.stored(there.id).await;
            let task = Box::new(Task { key: Some(key("order-43")), ..there.clone() });
            let submit = Submit { task, on_duplicate: policy, own_payload: true, idempotency: None };
            let answer = fixture.store.submit(vec![submit], T0).await;
            assert!(matches!(answer, Err(StoreError::Internal(_))), "{policy:?}: {answer:?}");
            fixture.check_stored(&before).await;
        }
    }
}

/// A config that takes no tasks is no place to look for one of them.
pub(super) async fn a_refusal_comes_before_the_id(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let there = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    fixture.hold(config.id, Hold::Disable).await;
    for key in ["order-42", "order-43"] {
        let task = Box::new(Task { key: Some(super::fixture::key(key)), ..there.clone() });
        assert_eq!(fixture.submit(task, OnDuplicateKey::Ignore).await, SubmitOutcome::ConfigDisabled);
    }
}

/// Its id was made before the config's span was changed.
pub(super) async fn a_task_is_made_at_home_alone(fixture: &Fixture) {
    let config = fixture.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let shards = fixture.store.shards();
    let away = (config_shard(config.id, shards).get() + 1) % shards;
    let away = ShardId::new(away).expect("below the number of shards");
    for key in [None, Some("order-42")] {
        for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
            let mut task = fixture.new_task(&config, key, T0);
            task.id = fixture.id(away);
            assert_eq!(fixture.submit(task, policy).await, SubmitOutcome::NotAtHome);
        }
        fixture.create(fixture.new_task(&config, key, T0)).await;
    }
    fixture.check_sums().await;
}
