//! A store that fails in the middle: what was done stands, and the next turn goes on from there.

use tsp_core::schedule::Overlap;
use tsp_store::memory::Fault;
use tsp_store::schedule::ScheduleStore;

use super::bed::{Bed, at, done, every, every_with};

/// Each call of a turn fails once, before and after it was applied; the promise is kept all the same.
#[test]
fn every_single_fault_is_made_good() {
    for fault in [Fault::Before, Fault::After] {
        for call in
            ["in_flight", "parks", "heads", "next_deadline", "cursors", "claim", "fire", "rearm", "lose"]
        {
            let mut bed = Bed::new();
            let config = bed.delayed("one");
            let cron = bed.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
            let ids = bed.submit_many(config, &[at(0), at(300)]);
            bed.settle();
            bed.begin_all();
            // One is running, one is in the window; both come back by `lose` and `rearm`.
            bed.restart();
            bed.fail(call, &[fault]);
            let mut failures = 0;
            for _ in 0..20 {
                match bed.step() {
                    Ok(_) => break,
                    Err(_) => failures += 1,
                }
            }
            assert!(failures <= 1, "{call}, {fault:?}: {failures} failures from one fault");
            bed.go_to(at(6_000));
            let worked = bed.work();
            for id in &ids {
                assert!(worked.contains(id), "{call}, {fault:?}: {id} did not go out: {worked:?}");
            }
            // A step of a schedule that failed is tried again after a second.
            bed.go_to(at(11_000));
            assert_eq!(bed.made(cron), [10_000], "{call}, {fault:?}");
        }
    }
}

#[test]
fn a_wait_whose_end_failed_is_ended_in_the_next_turn() {
    for fault in [Fault::Before, Fault::After] {
        let mut bed = Bed::new();
        let config = bed.config("async", None, |spec| spec.asynchronous.enabled = true);
        let id = bed.submit(config, at(0));
        bed.settle();
        let running = bed.begin_all();
        let accepted = tsp_core::outcome::Verdict::new(tsp_core::outcome::Outcome::Accepted, "accepted");
        let deadline = bed.finish(&running[0], accepted).due_at;
        bed.go_to(deadline.minus(super::bed::ms(1)));
        bed.now = deadline;
        bed.fail("end_waits", &[fault]);
        bed.step().expect_err("the fault");
        bed.go_to(deadline.plus(super::bed::ms(400)));
        assert_eq!(bed.work(), [id], "{fault:?}: the retry came at its time");
    }
}

/// One schedule that cannot be moved stops neither the others nor a claim.
#[test]
fn a_failing_schedule_holds_up_nobody() {
    let mut bed = Bed::new();
    let broken = bed.config("broken", Some(every(10)), |_| {});
    let config = bed.delayed("one");
    bed.go_to(at(9_000));
    let id = bed.submit(config, at(10_000));
    bed.now = at(10_000);
    bed.fail("fire", &[Fault::Before, Fault::Before, Fault::After]);
    let report = bed.settle();
    assert_eq!(bed.work(), [id]);
    assert!(report.next > at(10_000), "and it is not tried in a circle: {report:?}");
    bed.go_to(at(13_500));
    assert_eq!(bed.made(broken), [10_000], "it fires when it can, once");
    bed.settle();
    assert_eq!(bed.work().len(), 1);
}

/// A step after an edit that fails is not forgotten.
#[test]
fn an_edit_whose_step_failed_is_taken_up_again() {
    for fault in [Fault::Before, Fault::After] {
        let mut bed = Bed::new();
        let config = bed.config("cron", Some(every(3_600)), |_| {});
        bed.settle();
        bed.edit(config, |spec| spec.schedule = Some(every(7)));
        bed.fail("fire", &[fault]);
        bed.go_to(at(7_000));
        assert_eq!(bed.made(config), [7_000], "{fault:?}");
        // The same for a cursor that was never seen.
        let config = bed.config("new", Some(every(7)), |_| {});
        bed.inbox.changed(config);
        bed.fail("fire", &[fault, fault]);
        bed.go_to(at(14_000));
        assert_eq!(bed.made(config), [14_000], "{fault:?}");
    }
}

/// Somebody else has moved the cursor: it is read again and nothing is made twice.
#[test]
fn a_stale_cursor_is_read_again() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    bed.go_to(at(1_000));
    let cursor = done(bed.store.cursors()).unwrap().remove(0);
    let fire = tsp_store::schedule::Fire {
        config,
        cursor_version: cursor.version,
        config_version: cursor.config_version,
        overlap: Overlap::Allow,
        slots: Vec::new(),
        waiting: None,
        missed: 0,
        next_fire_at: cursor.next_fire_at,
    };
    done(bed.store.fire(bed.owner, fire, at(1_000))).unwrap();
    bed.go_to(at(10_000));
    assert_eq!(bed.made(config), [10_000]);
}
