//! Paused, disabled and parked configs.

use tsp_core::TaskId;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::Status;
use tsp_store::catalog::Catalog;
use tsp_store::catalog::{DeleteResult, ExpectedVersion, Hold};
use tsp_store::tasks::{Actor, TaskCommand};

use super::fixture::{Fixture, at, done, every, ms};
use crate::holds::{Reason, Subject};

#[test]
fn a_paused_config_is_not_claimed_from_until_it_is_resumed() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    fixture.pause(config);
    fixture.inbox.changed(config);
    let id = fixture.submit(config, at(0));
    fixture.calls();
    let report = fixture.go_to(at(4_000));
    assert!(fixture.calls().is_empty(), "a held config costs nothing");
    assert_eq!(fixture.status(id), Status::Scheduled);
    assert!(!report.turn.wants_room);
    fixture.hold(config, Hold::Resume);
    fixture.inbox.changed(config);
    fixture.run_until_idle();
    assert_eq!(fixture.work(), [id]);
}

#[test]
fn it_works_without_hints_too() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    fixture.hold(config, Hold::Disable);
    // Disabled after the submit, so that there is one.
    fixture.hold(config, Hold::Enable);
    let id = fixture.submit(config, at(100));
    fixture.hold(config, Hold::Disable);
    fixture.go_to(at(7_000));
    assert_eq!(fixture.status(id), Status::Scheduled, "seen at the claim");
    fixture.hold(config, Hold::Enable);
    fixture.go_to(at(9_999));
    assert!(fixture.taken().is_empty());
    fixture.go_to(at(10_000));
    assert_eq!(fixture.work(), [id], "found by the resync");
}

fn retry_after(seconds: i64) -> Verdict {
    let after = ms(seconds * 1_000);
    Verdict { park: Some(after), ..Verdict::new(Outcome::Retry(RetryDelay::Exactly(ms(100))), "http_status") }
}

#[test]
fn a_parked_config_waits_with_all_its_rows_and_nobody_else_does() {
    let mut fixture = Fixture::new();
    let (limited, other) = (fixture.delayed("limited"), fixture.delayed("other"));
    let first = fixture.submit(limited, at(0));
    let claimed = fixture.submit(limited, at(400));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    assert_eq!((running[0].id, fixture.status(claimed)), (first, Status::Queued));
    fixture.finish(&running[0], retry_after(3));
    let unclaimed = fixture.submit(limited, at(2_000));
    let free = fixture.submit(other, at(2_000));

    fixture.go_to(at(2_999));
    assert_eq!(fixture.work(), [free], "neither the claimed nor the unclaimed rows of the parked one");
    assert!(
        fixture.fetcher.holds().was_held(&fixture.cached_config(limited), at(2_999)),
        "the auditor is told why"
    );
    assert_eq!(fixture.run_until_idle().next, at(3_000), "the end of the wait makes a turn");
    fixture.go_to(at(3_000));
    let mut taken = fixture.work();
    fixture.run_until_idle();
    taken.extend(fixture.work());
    taken.sort_unstable();
    assert_eq!(taken, [first, claimed, unclaimed]);
}

#[test]
fn the_longest_wait_counts_and_an_edit_does_not_end_it() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    let ids = fixture.submit_many(config, &[at(0), at(0)]);
    fixture.run_until_idle();
    let running = fixture.begin_all();
    fixture.finish(&running[0], retry_after(4));
    fixture.finish(&running[1], retry_after(1));
    fixture.run_until_idle();
    fixture.edit(config, |spec| spec.priority = 4);
    fixture.pause(config);
    fixture.inbox.changed(config);
    fixture.run_until_idle();
    fixture.hold(config, Hold::Resume);
    fixture.inbox.changed(config);
    fixture.go_to(at(3_999));
    assert!(fixture.taken().is_empty());
    fixture.go_to(at(4_000));
    assert_eq!(fixture.work(), ids);
}

#[test]
fn whoever_ends_a_wait_lets_the_rows_go_with_its_hint_or_without() {
    for hint in [true, false] {
        let mut fixture = Fixture::new();
        let config = fixture.delayed("limited");
        let (first, claimed) = (fixture.submit(config, at(0)), fixture.submit(config, at(400)));
        fixture.run_until_idle();
        let running = fixture.begin_all();
        fixture.finish(&running[0], retry_after(3_600));
        fixture.go_to(at(1_000));
        assert!(fixture.taken().is_empty());
        let park = done(fixture.store.parked(config, fixture.now))
            .unwrap()
            .expect("it is kept where all can see it");
        assert_eq!((park.until, park.by), (at(3_600_000), first));
        done(fixture.store.unpark(config, fixture.now)).unwrap();
        if hint {
            fixture.inbox.unparked(config, fixture.now);
            fixture.run_until_idle();
        } else {
            fixture.go_to(at(4_999));
            assert!(fixture.taken().is_empty(), "nobody has told");
            fixture.go_to(at(5_000));
        }
        let mut taken = fixture.work();
        fixture.go_to(fixture.now.plus(ms(10)));
        taken.extend(fixture.work());
        taken.sort_unstable();
        assert_eq!(taken, [first, claimed], "hint: {hint}");
        fixture.go_to(at(20_000));
        assert_eq!(done(fixture.store.parked(config, fixture.now)).unwrap(), None);
    }
}

#[test]
fn a_wait_that_is_asked_for_after_an_end_counts() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    let ids = fixture.submit_many(config, &[at(0), at(0)]);
    fixture.inbox.due(config, at(0));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    fixture.finish(&running[0], retry_after(60));
    fixture.go_to(at(1_000));
    done(fixture.store.unpark(config, fixture.now)).unwrap();
    // Its hint comes late, after the second answer.
    fixture.now = at(1_500);
    fixture.finish(&running[1], retry_after(20));
    fixture.run_until_idle();
    fixture.inbox.unparked(config, at(1_000));
    fixture.go_to(at(21_499));
    assert!(fixture.taken().is_empty());
    fixture.go_to(at(21_500));
    let mut taken = fixture.work();
    taken.sort_unstable();
    assert_eq!(taken, ids);
}

#[test]
fn a_wait_outlives_its_fetcher() {
    for by_others in [true, false] {
        let mut fixture = Fixture::new();
        let config = fixture.delayed("limited");
        let id = fixture.submit(config, at(0));
        fixture.run_until_idle();
        let running = fixture.begin_all();
        fixture.finish(&running[0], retry_after(60));
        fixture.run_until_idle();
        fixture.restart();
        fixture.go_to(at(30_000));
        assert!(
            fixture.taken().is_empty()
                && fixture.fetcher.holds().was_held(&fixture.cached_config(config), fixture.now)
        );
        if by_others {
            done(fixture.store.unpark(config, fixture.now)).unwrap();
            fixture.inbox.unparked(config, fixture.now);
            fixture.run_until_idle();
        } else {
            fixture.go_to(at(59_999));
            assert!(fixture.taken().is_empty());
            fixture.go_to(at(60_000));
        }
        assert_eq!(fixture.work(), [id]);
    }
}

#[test]
fn the_answer_to_a_task_of_another_shard_parks_as_well() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    fixture.run_until_idle();
    let id = fixture.submit(config, at(1_000));
    fixture.inbox.parked(config, tsp_core::TaskId::new(7), ms(60_000));
    fixture.go_to(at(59_999));
    assert!(fixture.taken().is_empty());
    assert_eq!(
        done(fixture.store.parked(config, fixture.now)).unwrap().map(|park| park.until),
        Some(at(60_000))
    );
    fixture.go_to(at(60_000));
    assert_eq!(fixture.work(), [id]);
}

/// A store that does not take it holds up nothing, and is asked again.
#[test]
fn a_wait_that_could_not_be_saved_is_saved_later() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    fixture.fail("save_parks", &[tsp_store_testing::memory::Fault::Before; 3]);
    fixture.finish(&running[0], retry_after(60));
    let other = fixture.delayed("other");
    let free = fixture.submit(other, at(0));
    fixture.go_to(at(10));
    assert_eq!(fixture.work(), [free]);
    let parked = |fixture: &Fixture| done(fixture.store.parked(config, fixture.now)).unwrap().is_some();
    fixture.go_to(at(2_999));
    assert!(!parked(&fixture));
    fixture.go_to(at(3_000));
    assert!(parked(&fixture) && fixture.taken().is_empty());
    fixture.go_to(at(60_000));
    assert_eq!(fixture.work(), [id]);
}

#[test]
fn a_config_paused_while_parked_stays_paused() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    fixture.finish(&fixture.begin_all()[0], retry_after(1));
    fixture.run_until_idle();
    fixture.pause(config);
    fixture.inbox.changed(config);
    fixture.go_to(at(20_000));
    assert_eq!(fixture.status(id), Status::Scheduled);
    fixture.hold(config, Hold::Resume);
    fixture.inbox.changed(config);
    fixture.run_until_idle();
    assert_eq!(fixture.work(), [id]);
}

/// Whichever reason came first, and whichever ends first.
#[test]
fn a_parked_config_that_is_also_paused_and_resumed_stays_parked() {
    for is_paused_first in [true, false] {
        let mut fixture = Fixture::new();
        let config = fixture.delayed("limited");
        let (first, claimed) = (fixture.submit(config, at(0)), fixture.submit(config, at(400)));
        fixture.run_until_idle();
        let running = fixture.begin_all();
        let change = |fixture: &mut Fixture, hold| {
            fixture.hold(config, hold);
            fixture.inbox.changed(config);
            fixture.run_until_idle();
        };
        if is_paused_first {
            change(&mut fixture, Hold::Pause { note: None });
        }
        fixture.finish(&running[0], retry_after(7));
        fixture.run_until_idle();
        if !is_paused_first {
            change(&mut fixture, Hold::Pause { note: None });
        }
        fixture.go_to(at(2_000));
        change(&mut fixture, Hold::Resume);
        for hold in [Hold::Disable, Hold::Enable] {
            change(&mut fixture, hold);
        }
        fixture.go_to(at(6_999));
        assert!(fixture.taken().is_empty(), "a resync has not released it either");
        fixture.go_to(at(7_000));
        let mut taken = fixture.work();
        fixture.go_to(at(7_010));
        taken.extend(fixture.work());
        assert_eq!(sorted(taken), [first, claimed]);
    }
}

/// The hint of the resume is lost, and the next resync is at 5,000.
#[test]
fn what_was_resumed_unheard_is_seen_when_another_hold_ends() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("limited");
    let id = fixture.submit(config, at(0));
    fixture.run_until_idle();
    fixture.finish(&fixture.begin_all()[0], retry_after(2));
    fixture.pause(config);
    fixture.inbox.changed(config);
    fixture.run_until_idle();
    fixture.hold(config, Hold::Resume);
    fixture.go_to(at(1_999));
    assert!(fixture.taken().is_empty());
    fixture.go_to(at(2_000));
    assert_eq!(fixture.work(), [id]);
}

/// Its wait would be over at 7,000.
#[test]
fn a_config_deleted_while_parked_leaves_nothing() {
    for hint in [true, false] {
        let mut fixture = Fixture::new();
        let config = fixture.delayed("limited");
        let (first, claimed) = (fixture.submit(config, at(0)), fixture.submit(config, at(400)));
        fixture.run_until_idle();
        fixture.finish(&fixture.begin_all()[0], retry_after(7));
        fixture.go_to(at(1_000));
        for task in [first, claimed] {
            fixture.change(task, TaskCommand::Cancel);
        }
        let deleted =
            done(fixture.store.delete_config(config, ExpectedVersion::Any, &Actor::system(), fixture.now));
        assert_eq!(deleted.unwrap(), DeleteResult::Deleted);
        if hint {
            fixture.inbox.changed(config);
            fixture.run_until_idle();
        }
        fixture.go_to(at(5_000));
        fixture.take();
        let report = fixture.go_to(at(5_010));
        assert_eq!(report.next, at(10_000), "there is nothing to do before the next resync, hint: {hint}");
        assert!(!report.turn.wants_room, "no row of it is kept, hint: {hint}");
    }
}

/// Reasons of an app, of everything and of a config stand side by side.
#[test]
fn a_hold_of_an_app_holds_all_its_configs_and_no_other() {
    for reason in [Reason::Paused, Reason::Parked] {
        let mut fixture = Fixture::new();
        let (first, second) = (fixture.delayed("first"), fixture.delayed("second"));
        let app = Subject::App(fixture.cached_config(first).app_id);
        fixture.next_app("other");
        let other = fixture.delayed("other");
        let claimed = [first, second, other].map(|config| fixture.submit(config, at(400)));
        fixture.run_until_idle();
        fixture.fetcher.flow.hold(app, reason, None);
        fixture.fetcher.flow.hold(Subject::Config(second), Reason::Parked, Some(at(9_000)));
        let later = [first, second, other].map(|config| fixture.submit(config, at(2_000)));
        fixture.go_to(at(3_000));
        let expected = match reason {
            Reason::Parked => vec![claimed[2], later[2]],
            _ => vec![claimed[0], claimed[2], later[2]],
        };
        assert_eq!(sorted(fixture.work()), sorted(expected), "{reason:?}");

        fixture.fetcher.flow.hold(Subject::All, reason, Some(at(8_000)));
        fixture.fetcher.flow.release(app, reason, fixture.now);
        let last = fixture.submit(other, at(4_000));
        fixture.go_to(at(7_999));
        assert!(fixture.work().is_empty(), "{reason:?}: all are held");
        fixture.go_to(at(8_000));
        fixture.go_to(at(8_999));
        let expected = match reason {
            Reason::Parked => vec![claimed[0], later[0], last],
            _ => vec![later[0], last],
        };
        assert_eq!(sorted(fixture.work()), sorted(expected), "{reason:?}: the second one is held by itself");
        fixture.go_to(at(9_010));
        assert_eq!(sorted(fixture.work()), [claimed[1], later[1]], "{reason:?}");
    }
}

fn sorted(mut tasks: Vec<TaskId>) -> Vec<TaskId> {
    tasks.sort_unstable();
    tasks
}

#[test]
fn a_deleted_config_is_forgotten() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(60)), |_| {});
    fixture.go_to(at(1_000));
    let deleted =
        done(fixture.store.delete_config(config, ExpectedVersion::Any, &Actor::system(), fixture.now));
    assert_eq!(deleted.unwrap(), DeleteResult::Deleted);
    fixture.inbox.changed(config);
    fixture.inbox.due(config, at(1_000));
    fixture.run_until_idle();
    fixture.calls();
    fixture.go_to(at(61_000));
    assert!(!fixture.calls().contains_key("fire"));
    // Also without an event.
    let config = fixture.config("cron", Some(every(60)), |_| {});
    fixture.go_to(at(70_000));
    done(fixture.store.delete_config(config, ExpectedVersion::Any, &Actor::system(), fixture.now)).unwrap();
    fixture.calls();
    fixture.go_to(at(200_000));
    assert!(!fixture.calls().contains_key("fire"));
}
