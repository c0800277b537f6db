//! Submits with the key of an open task (API.md section 3).

use bytes::Bytes;
use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::Verdict;
use tsp_core::task::Status;
use tsp_store::tasks::{Submit, SubmitOutcome, TaskCommand};

use super::fixture::{Fixture, T0, assert_same, at};

/// The open task is answered as it is.
pub(super) async fn ignore_returns_the_open_task(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), at(60))).await;
    let second = fixture.new_task(&config, Some("order-42"), at(5));
    let id = second.id;
    match fixture.submit(second, OnDuplicateKey::Ignore).await {
        SubmitOutcome::Existing(task) => assert_same(&task, &first, "the open task, unchanged"),
        other => panic!("an open task holds the key: {other:?}"),
    }
    assert_eq!(fixture.store.task(id).await.expect("task"), None, "no second task is made");
    fixture.check_stored(&first).await;
}

/// Same key in one batch: the second element meets the first.
pub(super) async fn a_key_twice_in_one_batch_is_one_task(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let batch = [at(1), at(2)].map(|execute_at| Submit {
        task: fixture.new_task(&config, Some("order-42"), execute_at),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: None,
    });
    let first = batch[0].task.id;
    let answers = fixture.store.submit(Vec::from(batch), T0).await.expect("submit");
    match &answers[1] {
        tsp_store::idempotency::IdempotencyResult::Fresh(SubmitOutcome::Existing(task)) => {
            assert_eq!(task.id, first);
        }
        other => panic!("the first element holds the key: {other:?}"),
    }
}

/// Time and payload move, the id stays, and the stored row says so.
pub(super) async fn reset_moves_the_open_task(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for status in [Status::Scheduled, Status::Queued, Status::Paused] {
        let key = status.as_str();
        let mut before = fixture.create(fixture.new_task(&config, Some(key), T0)).await;
        match status {
            Status::Queued => before = fixture.claim(&before, T0).await,
            Status::Paused => before = fixture.changed(before.id, TaskCommand::Pause, T0).await,
            _ => {}
        }
        let mut new = fixture.new_task(&config, Some(key), at(300));
        new.payload = Some(Bytes::from_static(b"[2]"));
        let SubmitOutcome::Reset { task, after_current } = fixture.submit(new, OnDuplicateKey::Reset).await
        else {
            panic!("an open task at {status:?} takes a reset");
        };
        assert_eq!((task.id, task.version, after_current), (before.id, before.version + 1, false));
        assert_eq!(
            (task.execute_at, task.due_at, task.payload.as_deref()),
            (at(300), at(300), Some(&b"[2]"[..]))
        );
        assert_eq!(task.status == Status::Paused, status == Status::Paused);
        fixture.check_stored(&task).await;
    }
    let earliest_due = fixture.store.earliest_due().await.expect("earliest_due");
    assert_eq!(
        earliest_due.first().map(|earliest| earliest.due_at),
        Some(at(300)),
        "the head moves with the time"
    );
}

/// A default payload standing in for the submitter's does not overwrite the one that is there.
pub(super) async fn reset_without_a_payload_keeps_it(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let before = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let mut task = fixture.new_task(&config, Some("order-42"), at(9));
    task.payload = Some(Bytes::from_static(b"\"default\""));
    let submit = Submit { task, on_duplicate: OnDuplicateKey::Reset, own_payload: false, idempotency: None };
    fixture.store.submit(vec![submit], T0).await.expect("submit");
    let stored = fixture.stored(before.id).await;
    assert_eq!((stored.payload, stored.execute_at), (before.payload, at(9)));
}

/// It takes the new time once its attempt has ended, whatever row the worker holds.
pub(super) async fn reset_of_an_executing_task_comes_after_the_current_attempt(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let new = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let begun = fixture.begin(&fixture.claim(&new, T0).await, T0).await;
    let again = fixture.new_task(&config, Some("order-42"), at(300));
    let SubmitOutcome::Reset { task, after_current } = fixture.submit(again, OnDuplicateKey::Reset).await
    else {
        panic!("an executing task takes a reset");
    };
    assert!(after_current, "its attempt goes on");
    assert_eq!((task.status, task.execute_at), (Status::Executing, T0));
    fixture.check_stored(&task).await;
    // The worker's row is of before the reset.
    let after = fixture.finish(&begun, Verdict::done(), at(1)).await;
    assert_eq!((after.status, after.execute_at, after.due_at), (Status::Scheduled, at(300), at(300)));
    fixture.check_stored(&after).await;
    let closed = fixture.store.attempts(new.id).await.expect("attempts");
    assert_eq!(closed.len(), 1, "the outcome of the attempt is kept: {closed:?}");
}

/// At 45 the move is at once, and the attempt that was awaited is closed.
pub(super) async fn reset_of_an_awaiting_task_is_at_once(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let new = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let begun = fixture.begin(&fixture.claim(&new, T0).await, T0).await;
    let accepted = Verdict::new(tsp_core::Outcome::Accepted, "accepted");
    fixture.finish(&begun, accepted, T0).await;
    let again = fixture.new_task(&config, Some("order-42"), at(300));
    let SubmitOutcome::Reset { task, after_current } = fixture.submit(again, OnDuplicateKey::Reset).await
    else {
        panic!("an awaiting task takes a reset");
    };
    assert_eq!((task.status, task.due_at, after_current), (Status::Scheduled, at(300), false));
    fixture.check_stored(&task).await;
    assert_eq!(fixture.store.next_deadline().await.expect("next_deadline"), None);
    assert_eq!(fixture.store.attempts(new.id).await.expect("attempts").len(), 1);
}

/// The first holds the key; the others stand beside it and are found by id alone.
pub(super) async fn add_creates_another_beside(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut made = Vec::new();
    for seconds in [60, 30, 10] {
        let new = fixture.new_task(&config, Some("order-42"), at(seconds));
        match fixture.submit(new, OnDuplicateKey::Add).await {
            SubmitOutcome::Created(task) => made.push(*task),
            other => panic!("`add` always creates: {other:?}"),
        }
    }
    assert_eq!(made[0].key_slot, 0, "the first is the canonical one");
    assert_eq!(made[1].key_slot, made[1].id.get());
    for task in &made {
        fixture.check_stored(task).await;
    }
    let key = made[0].key.as_ref().expect("it has a key");
    let found = fixture.store.task_by_key(config.id, key).await.expect("task_by_key");
    assert_eq!(found.map(|task| task.id), Some(made[0].id));
}

/// Ended tasks and other configs do not hold a key.
pub(super) async fn a_key_is_free_after_the_end_and_in_other_configs(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let other = fixture.config("open-order").await;
    fixture.create(fixture.new_task(&other, Some("order-42"), T0)).await;
    fixture.changed(first.id, TaskCommand::Cancel, T0).await;
    let second = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    assert_eq!(second.key_slot, 0, "it is the canonical one now");
    assert_ne!(first.id, second.id);
}

/// Two tasks without a key never meet.
pub(super) async fn tasks_without_a_key_are_never_duplicates(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
        let answer = fixture.submit(fixture.new_task(&config, None, T0), policy).await;
        assert!(matches!(answer, SubmitOutcome::Created(_)), "{policy:?}: {answer:?}");
    }
}
