//! The auditor's counts.

use tsp_core::task::Status;
use tsp_core::{Millis, Timestamp};

use super::bed::{Bed, DEADLINE, T0, at};
use crate::schedule::Audit;
use crate::tasks::Wish;

async fn audit(bed: &Bed, now: Timestamp) -> Audit {
    bed.store.audit(now).await.expect("audit")
}

/// `accepted = open + ended` after each step of a long life.
pub(super) async fn the_sums_balance_after_every_step(bed: &Bed) {
    let config = bed.config("close-order").await;
    bed.check_sums().await;
    for status in Status::ALL {
        let task = bed.in_state(&config, status).await;
        bed.check_sums().await;
        for wish in [Wish::Pause, Wish::Resume, Wish::Run, Wish::Cancel, Wish::Replay, Wish::Cancel] {
            bed.change(task.id, wish, at(1)).await;
            bed.check_sums().await;
        }
    }
    let running = bed.executing(&config).await;
    bed.store.lose(bed.owner, vec![(running.id, bed.node)], at(1)).await.expect("lose");
    bed.check_sums().await;
    bed.awaiting(&config).await;
    bed.store.end_waits(bed.owner, 10, 0.5, T0.plus(DEADLINE)).await.expect("end_waits");
    bed.check_sums().await;
    let counts = audit(bed, at(1)).await;
    bed.store.prune(1_000, T0.plus(Millis::from_days(30))).await.expect("prune");
    bed.check_sums().await;
    let after = audit(bed, at(1)).await;
    assert_eq!((after.accepted, after.ended), (counts.accepted, counts.ended), "sums count what ever was");
}

/// Each status has its count; a replay is accepted once more.
pub(super) async fn open_rows_are_counted_by_status(bed: &Bed) {
    let config = bed.config("close-order").await;
    bed.one_in_each_state(&config).await;
    let counts = audit(bed, T0).await;
    let open = [Status::Scheduled, Status::Queued, Status::Executing, Status::Paused, Status::Awaiting];
    for status in open {
        let count = counts.open.iter().find(|(counted, _)| *counted == status).map(|(_, count)| *count);
        assert_eq!(count, Some(1), "{status:?} in {counts:?}");
    }
    assert_eq!((counts.accepted, counts.ended), (6, 1));
    let ended = bed.ended(&config).await;
    bed.changed(ended.id, Wish::Replay, at(2)).await;
    let counts = audit(bed, T0).await;
    assert_eq!((counts.accepted, counts.ended), (8, 2));
}

/// More than five seconds late at 0, by config; not what is claimed, paused or on time.
pub(super) async fn overdue_rows_are_counted_by_config(bed: &Bed) {
    let late = bed.config("late").await;
    let fine = bed.config("fine").await;
    bed.in_state(&late, Status::Queued).await;
    bed.in_state(&late, Status::Paused).await;
    for seconds in [0, 0, 1] {
        bed.create(bed.new_task(&late, None, at(seconds))).await;
    }
    bed.create(bed.new_task(&fine, None, at(3))).await;
    assert!(audit(bed, at(5)).await.overdue.is_empty(), "five seconds are no reason to ask");
    let soon = at(5).plus(Millis::from_ms(1));
    assert_eq!(audit(bed, soon).await.overdue, [(late.id, 2)]);
    assert_eq!(audit(bed, at(7)).await.overdue, [(late.id, 3)]);
}

/// They are shown as they stand.
pub(super) async fn cursors_are_part_of_it(bed: &Bed) {
    bed.config_of(super::bed::cron_spec("nightly")).await;
    assert_eq!(audit(bed, T0).await.cursors, bed.store.cursors().await.expect("cursors"));
}
