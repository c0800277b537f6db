//! What the owner rescues: lost messages, lost workers, receivers that did not complete.

use tsp_core::TaskId;
use tsp_core::outcome::{OutcomeKind, Verdict};
use tsp_core::task::{EndResult, Status};
use tsp_store::attempts::{BeginResult, FinishResult};
use tsp_store::fetching::EarliestDue;
use tsp_store::tasks::TaskCommand;

use super::fixture::{DEADLINE, Fixture, T0, at, message, outcome};

/// By id and version: what was begun meanwhile stays.
pub(super) async fn return_to_scheduled_gives_back_what_is_claimed(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let lost = fixture.queued(&config).await;
    let begun = fixture.executing(&config).await;
    let rows = vec![
        (lost.id, lost.version - 1),
        (begun.id, begun.version),
        (begun.id, begun.version - 1),
        (lost.id, lost.version),
        (TaskId::new(1), 1),
    ];
    let returned =
        fixture.store.return_to_scheduled(fixture.owner, rows, at(1)).await.expect("return_to_scheduled");
    assert_eq!(returned.iter().map(|task| task.id).collect::<Vec<_>>(), [lost.id]);
    assert_eq!((returned[0].status, returned[0].attempt, returned[0].due_at), (Status::Scheduled, 0, T0));
    fixture.check_stored(&returned[0]).await;
    fixture.check_stored(&begun).await;
    assert_eq!(
        fixture.begin_as(fixture.node, message(&lost), at(1)).await,
        BeginResult::Drop(None),
        "its message is stale"
    );
}

/// The queued and executing rows, and no others.
pub(super) async fn in_flight_lists_what_is_claimed_or_runs(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.one_in_each_state(&config).await;
    let mut rows = fixture.store.in_flight(None, 1_000).await.expect("in_flight").rows;
    rows.sort_by_key(|row| row.status);
    assert_eq!(rows.len(), 2, "one queued and one executing: {rows:?}");
    assert_eq!((rows[0].status, rows[0].epoch, rows[0].node), (Status::Queued, fixture.owner.epoch, None));
    assert_eq!((rows[1].status, rows[1].attempt, rows[1].node), (Status::Executing, 1, Some(fixture.node)));
    for row in rows {
        let task = fixture.stored(row.id).await;
        assert_eq!((row.config, row.version), (config.id, task.version));
    }
}

/// At once, without a failed attempt, and the lost worker's outcome comes too late.
pub(super) async fn a_lost_worker_gives_its_tasks_back(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    let other = fixture.store.register_node("other", T0).await.expect("register_node");
    let elsewhere =
        fixture.store.mark_worker_lost(fixture.owner, vec![(begun.id, other)], at(9)).await.expect("lose");
    assert!(elsewhere.is_empty(), "it runs under another node: {elsewhere:?}");
    let rows = vec![(begun.id, fixture.node), (begun.id, fixture.node), (TaskId::new(1), fixture.node)];
    let lost = fixture.store.mark_worker_lost(fixture.owner, rows, at(9)).await.expect("lose");
    assert_eq!(lost.len(), 1, "once: {lost:?}");
    let task = &lost[0];
    assert_eq!((task.status, task.due_at, task.node), (Status::Scheduled, at(9), None));
    assert_eq!((task.attempt, task.failed_attempts, task.worker_losses), (1, 0, 1));
    fixture.check_stored(task).await;
    let late = fixture.finish_as(fixture.node, outcome(&begun, Verdict::done()), at(10)).await;
    assert_eq!(late, FinishResult::TooLate);
    let attempts = fixture.store.attempts(begun.id).await.expect("attempts");
    assert_eq!(attempts.iter().map(|closed| closed.kind).collect::<Vec<_>>(), [OutcomeKind::Lost]);
}

/// A cancel that waits ends the task, a reset that waits moves it.
pub(super) async fn a_loss_yields_to_cancel_and_reset(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    fixture.changed(begun.id, TaskCommand::Cancel, T0).await;
    let lost = fixture
        .store
        .mark_worker_lost(fixture.owner, vec![(begun.id, fixture.node)], at(9))
        .await
        .expect("lose");
    assert_eq!(lost.first().and_then(|task| task.result), Some(EndResult::Cancelled));
    fixture.check_stored(&lost[0]).await;
}

/// In order of deadline, at most `limit`, nothing before its time.
pub(super) async fn end_waits_ends_what_is_over(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(fixture.awaiting(&config).await);
    }
    let over = T0.plus(DEADLINE);
    assert_eq!(fixture.store.next_deadline().await.expect("next_deadline"), Some(over));
    let early = over.minus(tsp_core::Millis::from_ms(1));
    let none = fixture.store.end_waits(fixture.owner, 10, 0.5, early).await.expect("end_waits");
    assert!(none.is_empty(), "not before the deadline: {none:?}");
    let two = fixture.store.end_waits(fixture.owner, 2, 0.5, over).await.expect("end_waits");
    let one = fixture.store.end_waits(fixture.owner, 2, 0.5, over).await.expect("end_waits");
    assert_eq!((two.len(), one.len()), (2, 1), "at most two at a time");
    for task in two.iter().chain(&one) {
        assert_eq!((task.status, task.failed_attempts), (Status::Scheduled, 1));
        assert_eq!(task.due_at, over.plus(tsp_core::Millis::from_mins(1)));
        fixture.check_stored(task).await;
        let attempts = fixture.store.attempts(task.id).await.expect("attempts");
        assert_eq!(attempts.iter().map(|closed| &*closed.reason).collect::<Vec<_>>(), ["async_timeout"]);
    }
    assert_eq!(fixture.store.next_deadline().await.expect("next_deadline"), None);
}

/// What waits for an answer is not to be claimed, and what is to be claimed waits for none.
pub(super) async fn a_deadline_is_no_due_time(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.awaiting(&config).await;
    assert_eq!(fixture.store.earliest_due().await.expect("earliest_due"), []);
    fixture.create(fixture.new_task(&config, None, at(30))).await;
    let earliest_due = fixture.store.earliest_due().await.expect("earliest_due");
    assert_eq!(earliest_due, [EarliestDue { config: config.id, due_at: at(30) }]);
    let deadline = fixture.store.next_deadline().await.expect("next_deadline");
    assert_eq!(deadline, Some(T0.plus(DEADLINE)));
}

/// Nothing that the owner alone may do is done under an old epoch.
pub(super) async fn a_deposed_owner_rescues_nothing(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let queued = fixture.queued(&config).await;
    let begun = fixture.executing(&config).await;
    let waiting = fixture.awaiting(&config).await;
    let next = fixture.store.register_node("next", T0).await.expect("register_node");
    fixture.store.take_shards(next, T0).await.expect("take_shards");
    let late = T0.plus(DEADLINE);
    let returned = fixture
        .store
        .return_to_scheduled(fixture.owner, vec![(queued.id, queued.version)], late)
        .await
        .expect("return_to_scheduled");
    let lost = fixture
        .store
        .mark_worker_lost(fixture.owner, vec![(begun.id, fixture.node)], late)
        .await
        .expect("lose");
    let ended = fixture.store.end_waits(fixture.owner, 10, 0.5, late).await.expect("end_waits");
    assert_eq!((returned, lost, ended), (Vec::new(), Vec::new(), Vec::new()));
    for task in [queued, begun, waiting] {
        fixture.check_stored(&task).await;
    }
}

/// A new process finds what its predecessor left, and rescues it.
pub(super) async fn a_new_owner_finds_the_rows_of_the_old(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let queued = fixture.queued(&config).await;
    let begun = fixture.executing(&config).await;
    let node = fixture.store.register_node("next", T0).await.expect("register_node");
    let owner = fixture.store.take_shards(node, T0).await.expect("take_shards");
    let rows = fixture.store.in_flight(None, 1_000).await.expect("in_flight").rows;
    let foreign: Vec<_> =
        rows.iter().filter(|row| row.status == Status::Queued && row.epoch != owner.epoch).collect();
    assert_eq!(foreign.iter().map(|row| row.id).collect::<Vec<_>>(), [queued.id]);
    let rows = vec![(queued.id, queued.version)];
    assert_eq!(
        fixture.store.return_to_scheduled(owner, rows, at(1)).await.expect("return_to_scheduled").len(),
        1
    );
    assert_eq!(
        fixture
            .store
            .mark_worker_lost(owner, vec![(begun.id, fixture.node)], at(1))
            .await
            .expect("lose")
            .len(),
        1
    );
    assert!(fixture.store.in_flight(None, 1_000).await.expect("in_flight").rows.is_empty());
}
