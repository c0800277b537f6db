//! The auditor's counts.

use tsp_core::task::Status;
use tsp_core::{Millis, Timestamp};
use tsp_store::fetching::Audit;
use tsp_store::tasks::TaskCommand;

use super::fixture::{DEADLINE, Fixture, T0, at};

async fn audit(fixture: &Fixture, now: Timestamp) -> Audit {
    fixture.store.audit(now).await.expect("audit")
}

/// `accepted = open + ended` after each step of a long life.
pub(super) async fn the_sums_balance_after_every_step(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.check_sums().await;
    for status in Status::ALL {
        let task = fixture.in_state(&config, status).await;
        fixture.check_sums().await;
        for command in [
            TaskCommand::Pause,
            TaskCommand::Resume,
            TaskCommand::Run,
            TaskCommand::Cancel,
            TaskCommand::Replay,
            TaskCommand::Cancel,
        ] {
            fixture.change(task.id, command, at(1)).await;
            fixture.check_sums().await;
        }
    }
    let running = fixture.executing(&config).await;
    fixture
        .store
        .mark_worker_lost(fixture.owner, vec![(running.id, fixture.node)], at(1))
        .await
        .expect("lose");
    fixture.check_sums().await;
    fixture.awaiting(&config).await;
    fixture.store.end_waits(fixture.owner, 10, 0.5, T0.plus(DEADLINE)).await.expect("end_waits");
    fixture.check_sums().await;
    let counts = audit(fixture, at(1)).await;
    fixture.store.apply_retention(1_000, T0.plus(Millis::from_days(30))).await.expect("prune");
    fixture.check_sums().await;
    let after = audit(fixture, at(1)).await;
    assert_eq!((after.accepted, after.ended), (counts.accepted, counts.ended), "sums count what ever was");
}

/// Each status has its count; a replay is accepted once more.
pub(super) async fn open_rows_are_counted_by_status(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.one_in_each_state(&config).await;
    let counts = audit(fixture, T0).await;
    let open = [Status::Scheduled, Status::Queued, Status::Executing, Status::Paused, Status::Awaiting];
    for status in open {
        let count = counts.open.iter().find(|(counted, _)| *counted == status).map(|(_, count)| *count);
        assert_eq!(count, Some(1), "{status:?} in {counts:?}");
    }
    assert_eq!((counts.accepted, counts.ended), (6, 1));
    let ended = fixture.ended(&config).await;
    fixture.changed(ended.id, TaskCommand::Replay, at(2)).await;
    let counts = audit(fixture, T0).await;
    assert_eq!((counts.accepted, counts.ended), (8, 2));
}

/// Scheduled and more than five seconds late, by config; not what is claimed, paused or on time.
pub(super) async fn overdue_rows_are_counted_by_config(fixture: &Fixture) {
    let late = fixture.config("late").await;
    let fine = fixture.config("fine").await;
    fixture.in_state(&late, Status::Queued).await;
    fixture.in_state(&late, Status::Paused).await;
    for seconds in [0, 0, 1] {
        fixture.create(fixture.new_task(&late, None, at(seconds))).await;
    }
    fixture.create(fixture.new_task(&fine, None, at(3))).await;
    assert!(audit(fixture, at(5)).await.overdue.is_empty(), "five seconds are no reason to ask");
    let soon = at(5).plus(Millis::from_ms(1));
    assert_eq!(audit(fixture, soon).await.overdue, [(late.id, 2)]);
    assert_eq!(audit(fixture, at(7)).await.overdue, [(late.id, 3)]);
}

/// They are shown as they stand.
pub(super) async fn cursors_are_part_of_it(fixture: &Fixture) {
    fixture.config_of(super::fixture::cron_spec("nightly")).await;
    assert_eq!(audit(fixture, T0).await.cursors, fixture.store.cursors().await.expect("cursors"));
}
