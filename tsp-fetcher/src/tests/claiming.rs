//! When rows are taken and when they go out.

use tsp_core::task::{EndResult, Status};
use tsp_queue::Subscriber;
use tsp_store::tasks::TaskCommand;

use super::fixture::{Fixture, TICK, at, ms};
use crate::{FetcherOptions, WindowLimits};

#[test]
fn a_task_is_claimed_ahead_and_published_at_its_time() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    let id = fixture.submit(config, at(2_000));
    let report = fixture.run_until_idle();
    assert_eq!(report.next, at(1_500), "half the look-ahead before its time");
    assert_eq!(fixture.status(id), Status::Scheduled);

    fixture.go_to(at(1_499));
    assert_eq!(fixture.status(id), Status::Scheduled, "not earlier than that");
    let report = fixture.go_to(at(1_500));
    assert_eq!((report.claimed, report.published, report.next), (1, 0, at(2_000)));
    fixture.go_to(at(1_999));
    assert!(fixture.taken().is_empty(), "never before its time");
    assert_eq!(fixture.go_to(at(2_000)).published, 1);
    assert_eq!(fixture.taken(), [id]);
}

#[test]
fn a_gulp_takes_all_within_the_lookahead() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("stream");
    let due: Vec<_> = (0..30).map(|n| at(500 + n * 100)).collect();
    let ids = fixture.submit_many(config, &due);
    fixture.inbox.due(config, due[0]);
    fixture.calls();
    let report = fixture.run_until_idle();
    assert_eq!(report.claimed, 6, "500 to 1000");
    assert_eq!(fixture.calls()["claim"], 1);
    let mut taken = Vec::new();
    for n in 0..30 {
        fixture.go_to(due[n]);
        taken.extend(fixture.work());
        assert_eq!(taken, ids[..=n], "each at its own time");
    }
    let claims = fixture.calls()["claim"];
    assert!(claims <= 6, "three seconds of a stream took {claims} claims");
}

#[test]
fn a_lone_task_goes_at_once_and_a_stream_in_ticks() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("stream");
    fixture.submit_many(config, &[at(100), at(101), at(102), at(103), at(104)]);
    fixture.run_until_idle();
    fixture.go_to(at(100));
    assert_eq!(fixture.take().len(), 1, "the first waits for nobody");
    assert_eq!(fixture.run_until_idle().next, at(103), "a tick later");
    fixture.go_to(at(103));
    assert_eq!(fixture.take().len(), 3);
    fixture.go_to(at(106));
    assert_eq!(fixture.take().len(), 1);
}

#[test]
fn due_now_goes_in_the_same_turn() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("now");
    fixture.run_until_idle();
    let id = fixture.submit(config, at(0));
    let report = fixture.step().unwrap();
    assert_eq!((report.claimed, report.published), (1, 1));
    assert_eq!(fixture.work(), [id]);
}

#[test]
fn a_hint_for_an_earlier_task_wakes_and_is_heeded() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.submit(config, at(60_000));
    let report = fixture.run_until_idle();
    let early = fixture.submit(config, at(300));
    assert!(at(300) <= report.turn.events_before, "the sleeper is to be woken: {report:?}");
    // Would block for a day if the hint did not count.
    fixture.inbox.wait(report.turn, tsp_core::Millis::from_days(1));
    fixture.go_to(at(300));
    assert_eq!(fixture.taken(), [early]);
}

#[test]
fn a_lost_hint_costs_one_resync() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.run_until_idle();
    let id = fixture.submit_silently(config, at(1_000));
    fixture.go_to(at(4_999));
    assert!(fixture.taken().is_empty(), "nobody has told");
    fixture.go_to(at(5_000));
    assert_eq!(fixture.taken(), [id]);
}

#[test]
fn retries_snoozes_and_postponed_tasks_come_at_their_new_time() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let (retried, postponed) = (fixture.submit(config, at(0)), fixture.submit(config, at(900)));
    fixture.run_until_idle();
    let running = fixture.begin_all();
    assert_eq!((running[0].id, fixture.status(postponed)), (retried, Status::Queued));
    let row = fixture.finish(&running[0], tsp_core::outcome::Verdict::retry("http_status"));
    assert_eq!(row.due_at, at(400));
    fixture.change(postponed, TaskCommand::Postpone { execute_at: at(1_200) });
    fixture.inbox.due(config, at(1_200));
    fixture.go_to(at(400));
    assert_eq!(fixture.work(), [retried]);
    fixture.go_to(at(900));
    assert!(fixture.work().is_empty(), "the message of the old version is stale");
    fixture.go_to(at(1_200));
    assert_eq!(fixture.work(), [postponed]);
}

/// The old copy of the row is still in the window, for the same time.
#[test]
fn a_row_paused_and_resumed_within_the_lookahead_goes_once() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(400));
    fixture.run_until_idle();
    fixture.change(id, TaskCommand::Pause);
    fixture.change(id, TaskCommand::Resume);
    fixture.inbox.due(config, at(400));
    fixture.run_until_idle();
    assert_eq!(fixture.status(id), Status::Queued);
    fixture.go_to(at(400));
    assert_eq!(fixture.work(), [id]);
    let report = fixture.run_until_idle();
    assert!(!report.turn.wants_room, "nothing is held back: {report:?}");
}

#[test]
fn a_cancelled_row_in_the_window_is_not_called() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let id = fixture.submit(config, at(400));
    fixture.run_until_idle();
    fixture.change(id, TaskCommand::Cancel);
    fixture.go_to(at(400));
    assert!(fixture.work().is_empty());
    assert_eq!(fixture.status(id), Status::Ended);
}

#[test]
fn a_row_whose_expiry_passed_ends_at_the_claim() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.expire_after = Some(ms(1_000));
    let (expired, good) = (fixture.submit(config, at(0)), fixture.submit(config, at(500)));
    // The process was down.
    fixture.now = at(1_000);
    fixture.run_until_idle();
    assert_eq!(fixture.task(expired).result, Some(EndResult::Expired));
    assert_eq!(fixture.work(), [good]);
}

#[test]
fn a_full_queue_waits_for_room_and_keeps_the_order() {
    let mut fixture = Fixture::with(FetcherOptions::default(), 4);
    let config = fixture.delayed("flood");
    let ids = fixture.submit_many(config, &[at(0); 10]);
    let report = fixture.run_until_idle();
    assert_eq!(report.published, 4);
    assert!(report.turn.wants_room && report.next > at(0), "feedback is what it waits for: {report:?}");
    let mut taken = fixture.work();
    while taken.len() < 10 {
        fixture.inbox.wait(report.turn, tsp_core::Millis::from_days(1));
        fixture.go_to(fixture.now.plus(TICK));
        taken.extend(fixture.work());
    }
    assert_eq!(taken, ids);
}

#[test]
fn the_bound_per_config_holds_its_own_rows_only() {
    let window = WindowLimits {
        in_pipe_per_config: 2,
        claimed_per_config: 4,
        backlog_per_config: 3,
        claimed: 100,
        ..WindowLimits::default()
    };
    let mut fixture = Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let (slow, quick) = (fixture.delayed("slow"), fixture.delayed("quick"));
    let ids = fixture.submit_many(slow, &[at(0); 20]);
    fixture.inbox.due(slow, at(0));
    let report = fixture.run_until_idle();
    assert_eq!((report.published, report.claimed), (2, 6), "two in the pipe, four behind them");
    assert!(report.next > at(0), "a starved config does not make turns: {report:?}");
    let was_held = |config| fixture.fetcher.holds().was_held(&fixture.cached_config(config), at(0));
    assert!(was_held(slow) && !was_held(quick), "the auditor is told why");

    let other = fixture.submit(quick, at(0));
    fixture.go_to(fixture.now.plus(TICK));
    let deliveries = fixture.take();
    assert_eq!(deliveries.len(), 3);
    assert_eq!(deliveries[2].message.id, other, "another config is not held up");
    fixture.worker.requeue(deliveries);
    let mut taken: Vec<_> = fixture.work().into_iter().filter(|id| *id != other).collect();
    for _ in 0..20 {
        fixture.go_to(fixture.now.plus(TICK));
        taken.extend(fixture.work());
    }
    assert_eq!(taken, ids, "starved configs come back");
    assert!(!fixture.run_until_idle().turn.wants_room);
}

#[test]
fn the_bound_of_all_holds_while_many_claim_at_once() {
    let window = WindowLimits { claimed: 200, ..WindowLimits::default() };
    let mut fixture = Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 1);
    let mut count = 0;
    for n in 0..4 {
        let config = fixture.delayed(&format!("flood-{n}"));
        count += fixture.submit_many(config, &[at(0); 500]).len();
    }
    let claimed = fixture.run_until_idle().claimed;
    assert!(claimed <= 200 + 3 * 16, "{claimed} rows of {count} in memory");
}

#[test]
fn more_configs_than_one_claim_takes_are_served_in_turns_that_follow_at_once() {
    let mut fixture = Fixture::new();
    for n in 0..600 {
        let config = fixture.delayed(&format!("config-{n}"));
        fixture.submit_silently(config, at(0));
    }
    fixture.calls();
    assert_eq!(fixture.run_until_idle().claimed, 600);
    assert_eq!(fixture.calls()["claim"], 3);
    fixture.go_to(at(3));
    assert_eq!(fixture.take().len(), 600, "a tick later all are out");
}
