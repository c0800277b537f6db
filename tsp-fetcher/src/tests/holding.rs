//! Paused, disabled and parked configs.

use tsp_core::TaskId;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::Status;
use tsp_store::catalog::Catalog;
use tsp_store::catalog::{Deleted, Expected, Hold};
use tsp_store::tasks::{Actor, Wish};

use super::bed::{Bed, at, done, every, ms};
use crate::holds::{Reason, Subject};

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
    assert!(bed.fetcher.holds().was_held(&bed.book_config(limited), at(2_999)), "the auditor is told why");
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
fn whoever_ends_a_wait_lets_the_rows_go_with_its_hint_or_without() {
    for hint in [true, false] {
        let mut bed = Bed::new();
        let config = bed.delayed("limited");
        let (first, claimed) = (bed.submit(config, at(0)), bed.submit(config, at(400)));
        bed.settle();
        let running = bed.begin_all();
        bed.finish(&running[0], retry_after(3_600));
        bed.go_to(at(1_000));
        assert!(bed.taken().is_empty());
        let park = done(bed.store.parked(config, bed.now)).unwrap().expect("it is kept where all can see it");
        assert_eq!((park.until, park.by), (at(3_600_000), first));
        done(bed.store.unpark(config, bed.now)).unwrap();
        if hint {
            bed.inbox.unparked(config, bed.now);
            bed.settle();
        } else {
            bed.go_to(at(4_999));
            assert!(bed.taken().is_empty(), "nobody has told");
            bed.go_to(at(5_000));
        }
        let mut taken = bed.work();
        bed.go_to(bed.now.plus(ms(10)));
        taken.extend(bed.work());
        taken.sort_unstable();
        assert_eq!(taken, [first, claimed], "hint: {hint}");
        bed.go_to(at(20_000));
        assert_eq!(done(bed.store.parked(config, bed.now)).unwrap(), None);
    }
}

#[test]
fn a_wait_that_is_asked_for_after_an_end_counts() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    let ids = bed.submit_many(config, &[at(0), at(0)]);
    bed.inbox.due(config, at(0));
    bed.settle();
    let running = bed.begin_all();
    bed.finish(&running[0], retry_after(60));
    bed.go_to(at(1_000));
    done(bed.store.unpark(config, bed.now)).unwrap();
    // Its hint comes late, after the second answer.
    bed.now = at(1_500);
    bed.finish(&running[1], retry_after(20));
    bed.settle();
    bed.inbox.unparked(config, at(1_000));
    bed.go_to(at(21_499));
    assert!(bed.taken().is_empty());
    bed.go_to(at(21_500));
    let mut taken = bed.work();
    taken.sort_unstable();
    assert_eq!(taken, ids);
}

#[test]
fn a_wait_outlives_its_fetcher() {
    for by_others in [true, false] {
        let mut bed = Bed::new();
        let config = bed.delayed("limited");
        let id = bed.submit(config, at(0));
        bed.settle();
        let running = bed.begin_all();
        bed.finish(&running[0], retry_after(60));
        bed.settle();
        bed.restart();
        bed.go_to(at(30_000));
        assert!(bed.taken().is_empty() && bed.fetcher.holds().was_held(&bed.book_config(config), bed.now));
        if by_others {
            done(bed.store.unpark(config, bed.now)).unwrap();
            bed.inbox.unparked(config, bed.now);
            bed.settle();
        } else {
            bed.go_to(at(59_999));
            assert!(bed.taken().is_empty());
            bed.go_to(at(60_000));
        }
        assert_eq!(bed.work(), [id]);
    }
}

#[test]
fn the_answer_to_a_task_of_another_shard_parks_as_well() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    bed.settle();
    let id = bed.submit(config, at(1_000));
    bed.inbox.parked(config, tsp_core::TaskId::new(7), ms(60_000));
    bed.go_to(at(59_999));
    assert!(bed.taken().is_empty());
    assert_eq!(done(bed.store.parked(config, bed.now)).unwrap().map(|park| park.until), Some(at(60_000)));
    bed.go_to(at(60_000));
    assert_eq!(bed.work(), [id]);
}

/// A store that does not take it holds up nothing, and is told again.
#[test]
fn a_wait_that_could_not_be_saved_is_saved_later() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    let id = bed.submit(config, at(0));
    bed.settle();
    let running = bed.begin_all();
    bed.fail("save_parks", &[tsp_store::memory::Fault::Before; 3]);
    bed.finish(&running[0], retry_after(60));
    let other = bed.delayed("other");
    let free = bed.submit(other, at(0));
    bed.go_to(at(10));
    assert_eq!(bed.work(), [free]);
    let parked = |bed: &Bed| done(bed.store.parked(config, bed.now)).unwrap().is_some();
    bed.go_to(at(2_999));
    assert!(!parked(&bed));
    bed.go_to(at(3_000));
    assert!(parked(&bed) && bed.taken().is_empty());
    bed.go_to(at(60_000));
    assert_eq!(bed.work(), [id]);
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

/// Whichever reason came first, and whichever ends first.
#[test]
fn a_parked_config_that_is_also_paused_and_resumed_stays_parked() {
    for is_paused_first in [true, false] {
        let mut bed = Bed::new();
        let config = bed.delayed("limited");
        let (first, claimed) = (bed.submit(config, at(0)), bed.submit(config, at(400)));
        bed.settle();
        let running = bed.begin_all();
        let change = |bed: &mut Bed, hold| {
            bed.hold(config, hold);
            bed.inbox.changed(config);
            bed.settle();
        };
        if is_paused_first {
            change(&mut bed, Hold::Pause { note: None });
        }
        bed.finish(&running[0], retry_after(7));
        bed.settle();
        if !is_paused_first {
            change(&mut bed, Hold::Pause { note: None });
        }
        bed.go_to(at(2_000));
        change(&mut bed, Hold::Resume);
        for hold in [Hold::Disable, Hold::Enable] {
            change(&mut bed, hold);
        }
        bed.go_to(at(6_999));
        assert!(bed.taken().is_empty(), "a resync has not released it either");
        bed.go_to(at(7_000));
        let mut taken = bed.work();
        bed.go_to(at(7_010));
        taken.extend(bed.work());
        assert_eq!(sorted(taken), [first, claimed]);
    }
}

/// The hint of the resume is lost, and the next resync is at 5,000.
#[test]
fn what_was_resumed_unheard_is_seen_when_another_hold_ends() {
    let mut bed = Bed::new();
    let config = bed.delayed("limited");
    let id = bed.submit(config, at(0));
    bed.settle();
    bed.finish(&bed.begin_all()[0], retry_after(2));
    bed.pause(config);
    bed.inbox.changed(config);
    bed.settle();
    bed.hold(config, Hold::Resume);
    bed.go_to(at(1_999));
    assert!(bed.taken().is_empty());
    bed.go_to(at(2_000));
    assert_eq!(bed.work(), [id]);
}

/// Its wait would be over at 7,000.
#[test]
fn a_config_deleted_while_parked_leaves_nothing() {
    for hint in [true, false] {
        let mut bed = Bed::new();
        let config = bed.delayed("limited");
        let (first, claimed) = (bed.submit(config, at(0)), bed.submit(config, at(400)));
        bed.settle();
        bed.finish(&bed.begin_all()[0], retry_after(7));
        bed.go_to(at(1_000));
        for task in [first, claimed] {
            bed.change(task, Wish::Cancel);
        }
        let deleted = done(bed.store.delete_config(config, Expected::Any, &Actor::system(), bed.now));
        assert_eq!(deleted.unwrap(), Deleted::Deleted);
        if hint {
            bed.inbox.changed(config);
            bed.settle();
        }
        bed.go_to(at(5_000));
        bed.take();
        let report = bed.go_to(at(5_010));
        assert_eq!(report.next, at(10_000), "there is nothing to do before the next resync, hint: {hint}");
        assert!(!report.turn.wants_room, "no row of it is kept, hint: {hint}");
    }
}

/// Reasons of an app, of everything and of a config stand side by side.
#[test]
fn a_hold_of_an_app_holds_all_its_configs_and_no_other() {
    for reason in [Reason::Paused, Reason::Parked] {
        let mut bed = Bed::new();
        let (first, second) = (bed.delayed("first"), bed.delayed("second"));
        let app = Subject::App(bed.book_config(first).app_id);
        bed.next_app("other");
        let other = bed.delayed("other");
        let claimed = [first, second, other].map(|config| bed.submit(config, at(400)));
        bed.settle();
        bed.fetcher.flow.hold(app, reason, None);
        bed.fetcher.flow.hold(Subject::Config(second), Reason::Parked, Some(at(9_000)));
        let later = [first, second, other].map(|config| bed.submit(config, at(2_000)));
        bed.go_to(at(3_000));
        let expected = match reason {
            Reason::Parked => vec![claimed[2], later[2]],
            _ => vec![claimed[0], claimed[2], later[2]],
        };
        assert_eq!(sorted(bed.work()), sorted(expected), "{reason:?}");

        bed.fetcher.flow.hold(Subject::All, reason, Some(at(8_000)));
        bed.fetcher.flow.release(app, reason, bed.now);
        let last = bed.submit(other, at(4_000));
        bed.go_to(at(7_999));
        assert!(bed.work().is_empty(), "{reason:?}: all are held");
        bed.go_to(at(8_000));
        bed.go_to(at(8_999));
        let expected = match reason {
            Reason::Parked => vec![claimed[0], later[0], last],
            _ => vec![later[0], last],
        };
        assert_eq!(sorted(bed.work()), sorted(expected), "{reason:?}: the second one is held by itself");
        bed.go_to(at(9_010));
        assert_eq!(sorted(bed.work()), [claimed[1], later[1]], "{reason:?}");
    }
}

fn sorted(mut tasks: Vec<TaskId>) -> Vec<TaskId> {
    tasks.sort_unstable();
    tasks
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
