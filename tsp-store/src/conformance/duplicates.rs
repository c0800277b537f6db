//! Submits with the key of an open task (API.md section 3).

use bytes::Bytes;
use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::Verdict;
use tsp_core::task::Status;

use super::bed::{Bed, T0, assert_same, at};
use crate::tasks::{Submit, Submitted, Wish};

/// The open task is answered as it is.
pub(super) async fn ignore_returns_the_open_task(bed: &Bed) {
    let config = bed.config("close-order").await;
    let first = bed.create(bed.new_task(&config, Some("order-42"), at(60))).await;
    let second = bed.new_task(&config, Some("order-42"), at(5));
    let id = second.id;
    match bed.submit(second, OnDuplicateKey::Ignore).await {
        Submitted::Existing(task) => assert_same(&task, &first, "the open task, unchanged"),
        other => panic!("an open task holds the key: {other:?}"),
    }
    assert_eq!(bed.store.task(id).await.expect("task"), None, "no second task is made");
    bed.check_stored(&first).await;
}

/// Same key in one batch: the second element meets the first.
pub(super) async fn a_key_twice_in_one_batch_is_one_task(bed: &Bed) {
    let config = bed.config("close-order").await;
    let batch = [at(1), at(2)].map(|execute_at| Submit {
        task: bed.new_task(&config, Some("order-42"), execute_at),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        keep: None,
    });
    let first = batch[0].task.id;
    let answers = bed.store.submit(Vec::from(batch), T0).await.expect("submit");
    match &answers[1] {
        crate::idempotency::Kept::Fresh(Submitted::Existing(task)) => assert_eq!(task.id, first),
        other => panic!("the first element holds the key: {other:?}"),
    }
}

/// Time and payload move, the id stays, and the stored row says so.
pub(super) async fn reset_moves_the_open_task(bed: &Bed) {
    let config = bed.config("close-order").await;
    for status in [Status::Scheduled, Status::Queued, Status::Paused] {
        let key = status.as_str();
        let mut before = bed.create(bed.new_task(&config, Some(key), T0)).await;
        match status {
            Status::Queued => before = bed.claim(&before, T0).await,
            Status::Paused => before = bed.changed(before.id, Wish::Pause, T0).await,
            _ => {}
        }
        let mut new = bed.new_task(&config, Some(key), at(300));
        new.payload = Some(Bytes::from_static(b"[2]"));
        let Submitted::Reset { task, after_current } = bed.submit(new, OnDuplicateKey::Reset).await else {
            panic!("an open task at {status:?} takes a reset");
        };
        assert_eq!((task.id, task.version, after_current), (before.id, before.version + 1, false));
        assert_eq!(
            (task.execute_at, task.due_at, task.payload.as_deref()),
            (at(300), at(300), Some(&b"[2]"[..]))
        );
        assert_eq!(task.status == Status::Paused, status == Status::Paused);
        bed.check_stored(&task).await;
    }
    let heads = bed.store.heads().await.expect("heads");
    assert_eq!(heads.first().map(|head| head.due_at), Some(at(300)), "the head moves with the time");
}

/// A default payload standing in for the submitter's does not overwrite the one that is there.
pub(super) async fn reset_without_a_payload_keeps_it(bed: &Bed) {
    let config = bed.config("close-order").await;
    let before = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    let mut task = bed.new_task(&config, Some("order-42"), at(9));
    task.payload = Some(Bytes::from_static(b"\"default\""));
    let submit = Submit { task, on_duplicate: OnDuplicateKey::Reset, own_payload: false, keep: None };
    bed.store.submit(vec![submit], T0).await.expect("submit");
    let stored = bed.stored(before.id).await;
    assert_eq!((stored.payload, stored.execute_at), (before.payload, at(9)));
}

/// It takes the new time once its attempt has ended, whatever row the worker holds.
pub(super) async fn reset_of_an_executing_task_comes_after_the_current_attempt(bed: &Bed) {
    let config = bed.config("close-order").await;
    let new = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    let begun = bed.begin(&bed.claim(&new, T0).await, T0).await;
    let again = bed.new_task(&config, Some("order-42"), at(300));
    let Submitted::Reset { task, after_current } = bed.submit(again, OnDuplicateKey::Reset).await else {
        panic!("an executing task takes a reset");
    };
    assert!(after_current, "its attempt goes on");
    assert_eq!((task.status, task.execute_at), (Status::Executing, T0));
    bed.check_stored(&task).await;
    // The worker's row is of before the reset.
    let after = bed.finish(&begun, Verdict::done(), at(1)).await;
    assert_eq!((after.status, after.execute_at, after.due_at), (Status::Scheduled, at(300), at(300)));
    bed.check_stored(&after).await;
    let closed = bed.store.attempts(new.id).await.expect("attempts");
    assert_eq!(closed.len(), 1, "the outcome of the attempt is kept: {closed:?}");
}

/// At 45 the move is at once, and the attempt that was awaited is closed.
pub(super) async fn reset_of_an_awaiting_task_is_at_once(bed: &Bed) {
    let config = bed.config("close-order").await;
    let new = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    let begun = bed.begin(&bed.claim(&new, T0).await, T0).await;
    let accepted = Verdict::new(tsp_core::Outcome::Accepted, "accepted");
    bed.finish(&begun, accepted, T0).await;
    let again = bed.new_task(&config, Some("order-42"), at(300));
    let Submitted::Reset { task, after_current } = bed.submit(again, OnDuplicateKey::Reset).await else {
        panic!("an awaiting task takes a reset");
    };
    assert_eq!((task.status, task.due_at, after_current), (Status::Scheduled, at(300), false));
    bed.check_stored(&task).await;
    assert_eq!(bed.store.next_deadline().await.expect("next_deadline"), None);
    assert_eq!(bed.store.attempts(new.id).await.expect("attempts").len(), 1);
}

/// The first holds the key; the others stand beside it and are found by id alone.
pub(super) async fn add_creates_another_beside(bed: &Bed) {
    let config = bed.config("close-order").await;
    let mut made = Vec::new();
    for seconds in [60, 30, 10] {
        let new = bed.new_task(&config, Some("order-42"), at(seconds));
        match bed.submit(new, OnDuplicateKey::Add).await {
            Submitted::Created(task) => made.push(*task),
            other => panic!("`add` always creates: {other:?}"),
        }
    }
    assert_eq!(made[0].key_slot, 0, "the first is the canonical one");
    assert_eq!(made[1].key_slot, made[1].id.get());
    for task in &made {
        bed.check_stored(task).await;
    }
    let key = made[0].key.as_ref().expect("it has a key");
    let found = bed.store.task_by_key(config.id, key).await.expect("task_by_key");
    assert_eq!(found.map(|task| task.id), Some(made[0].id));
}

/// Ended tasks and other configs do not hold a key.
pub(super) async fn a_key_is_free_after_the_end_and_in_other_configs(bed: &Bed) {
    let config = bed.config("close-order").await;
    let first = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    let other = bed.config("open-order").await;
    bed.create(bed.new_task(&other, Some("order-42"), T0)).await;
    bed.changed(first.id, Wish::Cancel, T0).await;
    let second = bed.create(bed.new_task(&config, Some("order-42"), T0)).await;
    assert_eq!(second.key_slot, 0, "it is the canonical one now");
    assert_ne!(first.id, second.id);
}

/// Two tasks without a key never meet.
pub(super) async fn tasks_without_a_key_are_never_duplicates(bed: &Bed) {
    let config = bed.config("close-order").await;
    for policy in [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add] {
        let answer = bed.submit(bed.new_task(&config, None, T0), policy).await;
        assert!(matches!(answer, Submitted::Created(_)), "{policy:?}: {answer:?}");
    }
}
