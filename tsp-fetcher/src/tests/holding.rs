//! Paused, disabled and parked configs.

use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::Status;
use tsp_store::catalog::Catalog;
use tsp_store::catalog::{Deleted, Expected, Hold};
use tsp_store::tasks::Actor;

use super::bed::{Bed, at, done, every, ms};

#[test]
fn a_paused_config_is_not_claimed_from_until_it_is_resumed() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    bed.pause(config);
    bed.inbox.changed(config);
    let id = bed.submit(config, at(0));
    bed.calls();
    let report = bed.go_to(at(4_000));
    assert!(bed.calls().is_empty(), "a held config costs nothing");
    assert_eq!(bed.status(id), Status::Scheduled);
    assert!(!report.turn.wants_room);
    bed.hold(config, Hold::Resume);
    bed.inbox.changed(config);
    bed.settle();
    assert_eq!(bed.work(), [id]);
}

#[test]
fn it_works_without_hints_too() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    bed.hold(config, Hold::Disable);
    // Disabled after the submit, so that there is one.
    bed.hold(config, Hold::Enable);
    let id = bed.submit(config, at(100));
    bed.hold(config, Hold::Disable);
    bed.go_to(at(7_000));
    assert_eq!(bed.status(id), Status::Scheduled, "seen at the claim");
    bed.hold(config, Hold::Enable);
    bed.go_to(at(9_999));
    assert!(bed.taken().is_empty());
    bed.go_to(at(10_000));
    assert_eq!(bed.work(), [id], "found by the resync");
}

fn retry_after(seconds: i64) -> Verdict {
    let after = ms(seconds * 1_000);
    Verdict { park: Some(after), ..Verdict::new(Outcome::Retry(RetryDelay::Exactly(ms(100))), "http_status") }
}

#[test]
fn a_parked_config_waits_with_all_its_rows_and_nobody_else_does() {
    let mut bed = Bed::new();
    let (limited, other) = (bed.delayed("limited"), bed.delayed("other"));
    let first = bed.submit(limited, at(0));
    let claimed = bed.submit(limited, at(400));
    bed.settle();
    let running = bed.begin_all();
    assert_eq!((running[0].id, bed.status(claimed)), (first, Status::Queued));
    bed.finish(&running[0], retry_after(3));
    let unclaimed = bed.submit(limited, at(2_000));
    let free = bed.submit(other, at(2_000));

    bed.go_to(at(2_999));
    assert_eq!(bed.work(), [free], "neither the claimed nor the unclaimed rows of the parked one");
    assert!(bed.fetcher.held().was_held(limited, at(2_999)), "the auditor is told why");
    assert_eq!(bed.settle().next, at(3_000), "the end of the wait makes a turn");
    bed.go_to(at(3_000));
    let mut taken = bed.work();
    bed.settle();
    taken.extend(bed.work());
    taken.sort_unstable();
    assert_eq!(taken, [first, claimed, unclaimed]);
}

#[test]
fn the_longest_wait_counts_and_an_edit_does_not_end_it() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    let ids = bed.submit_many(config, &[at(0), at(0)]);
    bed.settle();
    let running = bed.begin_all();
    bed.finish(&running[0], retry_after(4));
    bed.finish(&running[1], retry_after(1));
    bed.settle();
    bed.edit(config, |spec| spec.priority = 4);
    bed.pause(config);
    bed.inbox.changed(config);
    bed.settle();
    bed.hold(config, Hold::Resume);
    bed.inbox.changed(config);
    bed.go_to(at(3_999));
    assert!(bed.taken().is_empty());
    bed.go_to(at(4_000));
    assert_eq!(bed.work(), ids);
}

#[test]
fn a_config_paused_while_parked_stays_paused() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    let id = bed.submit(config, at(0));
    bed.settle();
    bed.finish(&bed.begin_all()[0], retry_after(1));
    bed.settle();
    bed.pause(config);
    bed.inbox.changed(config);
    bed.go_to(at(20_000));
    assert_eq!(bed.status(id), Status::Scheduled);
    bed.hold(config, Hold::Resume);
    bed.inbox.changed(config);
    bed.settle();
    assert_eq!(bed.work(), [id]);
}

#[test]
fn a_deleted_config_is_forgotten() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(60)), |_| {});
    bed.go_to(at(1_000));
    let deleted = done(bed.store.delete_config(config, Expected::Any, &Actor::system(), bed.now));
    assert_eq!(deleted.unwrap(), Deleted::Deleted);
    bed.inbox.changed(config);
    bed.inbox.due(config, at(1_000));
    bed.settle();
    bed.calls();
    bed.go_to(at(61_000));
    assert!(!bed.calls().contains_key("fire"));
    // Also when nobody told.
    let config = bed.config("cron", Some(every(60)), |_| {});
    bed.go_to(at(70_000));
    done(bed.store.delete_config(config, Expected::Any, &Actor::system(), bed.now)).unwrap();
    bed.calls();
    bed.go_to(at(200_000));
    assert!(!bed.calls().contains_key("fire"));
}
