//! A store that fails in the middle: what was done stands, and the next turn goes on from there.

use tsp_core::schedule::Overlap;
use tsp_store::fetching::{FetcherStore, Fire};
use tsp_store_testing::fire_one;
use tsp_store_testing::memory::Fault;

use super::fixture::{Fixture, at, done, every, every_with};

/// Each call of a turn fails once, before and after it was applied; the promise is kept all the same.
#[test]
fn every_single_fault_is_made_good() {
    for fault in [Fault::Before, Fault::After] {
        for call in
            ["in_flight", "parks", "heads", "next_deadline", "cursors", "claim", "fire", "rearm", "lose"]
        {
            let mut fixture = Fixture::new();
            let config = fixture.delayed("one");
            let cron = fixture.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
            let ids = fixture.submit_many(config, &[at(0), at(300)]);
            fixture.run_until_idle();
            fixture.begin_all();
            // One is running, one is in the window; both come back by `mark_worker_lost` and
            // `return_to_scheduled`.
            fixture.restart();
            fixture.fail(call, &[fault]);
            let mut failures = 0;
            for _ in 0..20 {
                match fixture.step() {
                    Ok(_) => break,
                    Err(_) => failures += 1,
                }
            }
            assert!(failures <= 1, "{call}, {fault:?}: {failures} failures from one fault");
            fixture.go_to(at(6_000));
            let worked = fixture.work();
            for id in &ids {
                assert!(worked.contains(id), "{call}, {fault:?}: {id} did not go out: {worked:?}");
            }
            // A step of a schedule that failed is tried again after a second.
            fixture.go_to(at(11_000));
            assert_eq!(fixture.made(cron), [10_000], "{call}, {fault:?}");
        }
    }
}

#[test]
fn a_wait_whose_end_failed_is_ended_in_the_next_turn() {
    for fault in [Fault::Before, Fault::After] {
        let mut fixture = Fixture::new();
        let config = fixture.config("async", None, |spec| spec.asynchronous.enabled = true);
        let id = fixture.submit(config, at(0));
        fixture.run_until_idle();
        let running = fixture.begin_all();
        let accepted = tsp_core::outcome::Verdict::new(tsp_core::outcome::Outcome::Accepted, "accepted");
        let deadline = fixture.finish(&running[0], accepted).due_at;
        fixture.go_to(deadline.minus(super::fixture::ms(1)));
        fixture.now = deadline;
        fixture.fail("end_waits", &[fault]);
        fixture.step().expect_err("the fault");
        fixture.go_to(deadline.plus(super::fixture::ms(400)));
        assert_eq!(fixture.work(), [id], "{fault:?}: the retry came at its time");
    }
}

/// One schedule that cannot be moved stops neither the others nor a claim.
#[test]
fn a_failing_schedule_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let broken = fixture.config("broken", Some(every(10)), |_| {});
    let config = fixture.delayed("one");
    fixture.go_to(at(9_000));
    let id = fixture.submit(config, at(10_000));
    fixture.now = at(10_000);
    fixture.fail("fire", &[Fault::Before, Fault::Before, Fault::After]);
    let report = fixture.run_until_idle();
    assert_eq!(fixture.work(), [id]);
    assert!(report.next > at(10_000), "and it is not tried in a circle: {report:?}");
    fixture.go_to(at(13_500));
    assert_eq!(fixture.made(broken), [10_000], "it fires when it can, once");
    fixture.run_until_idle();
    assert_eq!(fixture.work().len(), 1);
}

/// A step after an edit that fails is not forgotten.
#[test]
fn an_edit_whose_step_failed_is_taken_up_again() {
    for fault in [Fault::Before, Fault::After] {
        let mut fixture = Fixture::new();
        let config = fixture.config("cron", Some(every(3_600)), |_| {});
        fixture.run_until_idle();
        fixture.edit(config, |spec| spec.schedule = Some(every(7)));
        fixture.fail("fire", &[fault]);
        fixture.go_to(at(7_000));
        assert_eq!(fixture.made(config), [7_000], "{fault:?}");
        // The same for a cursor that was never seen.
        let config = fixture.config("new", Some(every(7)), |_| {});
        fixture.inbox.changed(config);
        fixture.fail("fire", &[fault, fault]);
        fixture.go_to(at(14_000));
        assert_eq!(fixture.made(config), [14_000], "{fault:?}");
    }
}

/// Somebody else has moved the cursor: it is read again and nothing is made twice.
#[test]
fn a_stale_cursor_is_read_again() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    fixture.go_to(at(1_000));
    let cursor = done(fixture.store.cursors()).unwrap().remove(0);
    let fire = Fire::without_slots(&fixture.cached_config(config), cursor.version, cursor.next_fire_at);
    done(fire_one(&*fixture.store, fixture.owner, fire, at(1_000))).unwrap();
    fixture.go_to(at(10_000));
    assert_eq!(fixture.made(config), [10_000]);
}
