//! When rows are taken and when they go out.

use tsp_core::task::{EndResult, Status};
use tsp_queue::Subscriber;
use tsp_store::tasks::Wish;

use super::bed::{Bed, TICK, at, ms};
use crate::{FetcherOptions, WindowLimits};

#[test]
fn a_task_is_claimed_ahead_and_published_at_its_time() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    let id = bed.submit(config, at(2_000));
    let report = bed.settle();
    assert_eq!(report.next, at(1_500), "half the look-ahead before its time");
    assert_eq!(bed.status(id), Status::Scheduled);

    bed.go_to(at(1_499));
    assert_eq!(bed.status(id), Status::Scheduled, "not earlier than that");
    let report = bed.go_to(at(1_500));
    assert_eq!((report.claimed, report.published, report.next), (1, 0, at(2_000)));
    bed.go_to(at(1_999));
    assert!(bed.taken().is_empty(), "never before its time");
    assert_eq!(bed.go_to(at(2_000)).published, 1);
    assert_eq!(bed.taken(), [id]);
}

#[test]
fn a_gulp_takes_all_within_the_lookahead() {
    let mut bed = Bed::new();
    let config = bed.delayed("stream");
    let due: Vec<_> = (0..30).map(|n| at(500 + n * 100)).collect();
    let ids = bed.submit_many(config, &due);
    bed.inbox.due(config, due[0]);
    bed.calls();
    let report = bed.settle();
    assert_eq!(report.claimed, 6, "500 to 1000");
    assert_eq!(bed.calls()["claim"], 1);
    let mut taken = Vec::new();
    for n in 0..30 {
        bed.go_to(due[n]);
        taken.extend(bed.work());
        assert_eq!(taken, ids[..=n], "each at its own time");
    }
    let claims = bed.calls()["claim"];
    assert!(claims <= 6, "three seconds of a stream took {claims} claims");
}

#[test]
fn a_lone_task_goes_at_once_and_a_stream_in_ticks() {
    let mut bed = Bed::new();
    let config = bed.delayed("stream");
    bed.submit_many(config, &[at(100), at(101), at(102), at(103), at(104)]);
    bed.settle();
    bed.go_to(at(100));
    assert_eq!(bed.take().len(), 1, "the first waits for nobody");
    assert_eq!(bed.settle().next, at(103), "a tick later");
    bed.go_to(at(103));
    assert_eq!(bed.take().len(), 3);
    bed.go_to(at(106));
    assert_eq!(bed.take().len(), 1);
}

#[test]
fn due_now_goes_in_the_same_turn() {
    let mut bed = Bed::new();
    let config = bed.delayed("now");
    bed.settle();
    let id = bed.submit(config, at(0));
    let report = bed.step().unwrap();
    assert_eq!((report.claimed, report.published), (1, 1));
    assert_eq!(bed.work(), [id]);
}

#[test]
fn a_hint_for_an_earlier_task_wakes_and_is_heeded() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.submit(config, at(60_000));
    let report = bed.settle();
    let early = bed.submit(config, at(300));
    assert!(at(300) <= report.turn.news_before, "the sleeper is to be woken: {report:?}");
    // Would block for a day if the hint did not count.
    bed.inbox.wait(report.turn, tsp_core::Millis::from_days(1));
    bed.go_to(at(300));
    assert_eq!(bed.taken(), [early]);
}

#[test]
fn a_lost_hint_costs_one_resync() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.settle();
    let id = bed.submit_silently(config, at(1_000));
    bed.go_to(at(4_999));
    assert!(bed.taken().is_empty(), "nobody has told");
    bed.go_to(at(5_000));
    assert_eq!(bed.taken(), [id]);
}

#[test]
fn retries_snoozes_and_postponed_tasks_come_at_their_new_time() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let (retried, postponed) = (bed.submit(config, at(0)), bed.submit(config, at(900)));
    bed.settle();
    let running = bed.begin_all();
    assert_eq!((running[0].id, bed.status(postponed)), (retried, Status::Queued));
    let row = bed.finish(&running[0], tsp_core::outcome::Verdict::retry("http_status"));
    assert_eq!(row.due_at, at(400));
    bed.change(postponed, Wish::Postpone { execute_at: at(1_200) });
    bed.inbox.due(config, at(1_200));
    bed.go_to(at(400));
    assert_eq!(bed.work(), [retried]);
    bed.go_to(at(900));
    assert!(bed.work().is_empty(), "the message of the old version is stale");
    bed.go_to(at(1_200));
    assert_eq!(bed.work(), [postponed]);
}

/// The old copy of the row is still in the window, for the same time.
#[test]
fn a_row_paused_and_resumed_within_the_lookahead_goes_once() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(400));
    bed.settle();
    bed.change(id, Wish::Pause);
    bed.change(id, Wish::Resume);
    bed.inbox.due(config, at(400));
    bed.settle();
    assert_eq!(bed.status(id), Status::Queued);
    bed.go_to(at(400));
    assert_eq!(bed.work(), [id]);
    let report = bed.settle();
    assert!(!report.turn.wants_room, "nothing is held back: {report:?}");
}

#[test]
fn a_cancelled_row_in_the_window_is_not_called() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let id = bed.submit(config, at(400));
    bed.settle();
    bed.change(id, Wish::Cancel);
    bed.go_to(at(400));
    assert!(bed.work().is_empty());
    assert_eq!(bed.status(id), Status::Ended);
}

#[test]
fn a_row_whose_expiry_passed_ends_at_the_claim() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    bed.expire_after = Some(ms(1_000));
    let (expired, good) = (bed.submit(config, at(0)), bed.submit(config, at(500)));
    // The process was away.
    bed.now = at(1_000);
    bed.settle();
    assert_eq!(bed.task(expired).result, Some(EndResult::Expired));
    assert_eq!(bed.work(), [good]);
}

#[test]
fn a_full_queue_waits_for_room_and_keeps_the_order() {
    let mut bed = Bed::with(FetcherOptions::default(), 4);
    let config = bed.delayed("flood");
    let ids = bed.submit_many(config, &[at(0); 10]);
    let report = bed.settle();
    assert_eq!(report.published, 4);
    assert!(report.turn.wants_room && report.next > at(0), "feedback is what it waits for: {report:?}");
    let mut taken = bed.work();
    while taken.len() < 10 {
        bed.inbox.wait(report.turn, tsp_core::Millis::from_days(1));
        bed.go_to(bed.now.plus(TICK));
        taken.extend(bed.work());
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
    let mut bed = Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096);
    let (slow, quick) = (bed.delayed("slow"), bed.delayed("quick"));
    let ids = bed.submit_many(slow, &[at(0); 20]);
    bed.inbox.due(slow, at(0));
    let report = bed.settle();
    assert_eq!((report.published, report.claimed), (2, 6), "two in the pipe, four behind them");
    assert!(report.next > at(0), "a starved config does not make turns: {report:?}");
    let was_held = |config| bed.fetcher.holds().was_held(&bed.book_config(config), at(0));
    assert!(was_held(slow) && !was_held(quick), "the auditor is told why");

    let other = bed.submit(quick, at(0));
    bed.go_to(bed.now.plus(TICK));
    let deliveries = bed.take();
    assert_eq!(deliveries.len(), 3);
    assert_eq!(deliveries[2].message.id, other, "another config is not held up");
    bed.worker.requeue(deliveries);
    let mut taken: Vec<_> = bed.work().into_iter().filter(|id| *id != other).collect();
    for _ in 0..20 {
        bed.go_to(bed.now.plus(TICK));
        taken.extend(bed.work());
    }
    assert_eq!(taken, ids, "starved configs come back");
    assert!(!bed.settle().turn.wants_room);
}

#[test]
fn the_bound_of_all_holds_while_many_claim_at_once() {
    let window = WindowLimits { claimed: 200, ..WindowLimits::default() };
    let mut bed = Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 1);
    let mut count = 0;
    for n in 0..4 {
        let config = bed.delayed(&format!("flood-{n}"));
        count += bed.submit_many(config, &[at(0); 500]).len();
    }
    let claimed = bed.settle().claimed;
    assert!(claimed <= 200 + 3 * 16, "{claimed} rows of {count} in memory");
}

#[test]
fn more_configs_than_one_claim_takes_are_served_in_turns_that_follow_at_once() {
    let mut bed = Bed::new();
    for n in 0..600 {
        let config = bed.delayed(&format!("config-{n}"));
        bed.submit_silently(config, at(0));
    }
    bed.calls();
    assert_eq!(bed.settle().claimed, 600);
    assert_eq!(bed.calls()["claim"], 3);
    bed.go_to(at(3));
    assert_eq!(bed.take().len(), 600, "a tick later all are out");
}
