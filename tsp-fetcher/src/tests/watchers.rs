//! The janitor and the auditor.

use tsp_core::config::RETENTION_DEFAULT;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::{Millis, Timestamp};
use tsp_store::Catalog as _;
use tsp_store::catalog::Hold;
use tsp_store::memory::Fault;

use super::bed::{Bed, TICK, at, done, every, ms};
use crate::{Auditor, FetcherOptions, Findings, Janitor, WindowLimits};

struct Audited {
    bed: Bed,
    auditor: Auditor,
}

impl Audited {
    /// An auditor that has looked for the first time long ago.
    fn new(bed: Bed) -> Self {
        let auditor = Auditor::new(
            bed.store.clone(),
            bed.store.book().clone(),
            bed.store.shards(),
            bed.fetcher.holds(),
        );
        done(auditor.step(Timestamp::ZERO)).expect("a look");
        Self { bed, auditor }
    }

    fn look(&self) -> Findings {
        done(self.auditor.step(self.bed.now)).expect("a look")
    }
}

fn overdue(rows: i64) -> Findings {
    Findings { overdue: rows, ..Findings::default() }
}

#[test]
fn in_health_everything_is_accounted_for() {
    let mut audited = Audited::new(Bed::new());
    let config = audited.bed.delayed("one");
    audited.bed.config("cron", Some(every(10)), |_| {});
    audited.bed.submit(config, at(100));
    audited.bed.submit(config, at(100_000));
    for second in 0..60 {
        audited.bed.go_to(at(second * 1_000));
        audited.bed.work();
        assert_eq!(audited.look(), Findings::default());
    }
    assert_eq!(audited.look().unaccounted(), 0);
}

#[test]
fn rows_that_nobody_claims_are_found() {
    let Audited { mut bed, auditor } = Audited::new(Bed::new());
    let config = bed.delayed("one");
    bed.submit_many(config, &[at(0), at(0), at(60_000)]);
    // The fetcher does nothing.
    bed.now = at(5_000);
    let look = |bed: &Bed| done(auditor.step(bed.now)).expect("a look");
    assert_eq!(look(&bed), overdue(0), "not yet");
    bed.now = at(5_001);
    assert_eq!(look(&bed), overdue(2));
    assert_eq!(look(&bed).unaccounted(), 2);
    bed.pause(config);
    assert_eq!(look(&bed), overdue(0), "a pause is a reason");
    bed.hold(config, Hold::Resume);
    bed.hold(config, Hold::Disable);
    assert_eq!(look(&bed), overdue(0), "so is a disabled config");
}

/// Nobody runs it, and nobody can end it but by hand.
#[test]
fn a_task_without_a_config_is_found_in_every_state() {
    let mut audited = Audited::new(Bed::new());
    let config = audited.bed.delayed("one");
    audited.bed.submit_many(config, &[at(0), at(60_000)]);
    audited.bed.go_to(at(0));
    audited.bed.begin_all();
    assert_eq!(audited.look(), Findings::default());
    let book = audited.bed.store.book().clone();
    let known = book.config(config).expect("it is there");
    book.remove_config(config, book.seq());
    assert_eq!(audited.look(), Findings { orphans: 2, ..Findings::default() });
    assert_eq!(audited.look().unaccounted(), 2);
    book.put_config(known, book.seq());
    assert_eq!(audited.look(), Findings::default());
}

#[test]
fn want_of_room_and_a_wait_asked_for_are_reasons_for_a_while() {
    let window = WindowLimits { in_pipe_per_config: 1, backlog_per_config: 1, ..WindowLimits::default() };
    let mut audited = Audited::new(Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096));
    let (slow, limited) = (audited.bed.delayed("slow"), audited.bed.delayed("limited"));
    let many = vec![at(0); 2_000];
    audited.bed.submit_many(slow, &many);
    audited.bed.submit(limited, at(0));
    audited.bed.go_to(at(0));
    let running = audited.bed.begin_all();
    let asked = Verdict {
        park: Some(Millis::from_secs(60)),
        ..Verdict::new(Outcome::Retry(RetryDelay::Exactly(ms(0))), "http_status")
    };
    let row = running.iter().find(|task| task.config == limited).expect("it runs");
    audited.bed.finish(row, asked);
    audited.bed.go_to(at(59_999));
    assert_eq!(audited.look(), overdue(0), "both are held on purpose");
    audited.bed.go_to(at(60_000));
    assert_eq!(audited.look(), overdue(0), "and what was let go is given a moment");

    // A fetcher that stands still has no reason any more, but for the config that is still held.
    let late = audited.bed.submit_silently(limited, at(60_000));
    audited.bed.now = at(75_000);
    assert_eq!(audited.look(), overdue(1), "{late}");
}

/// What a long pause has left behind does not fit into the window at once.
#[test]
fn what_was_paused_is_given_a_moment_after_it() {
    let window = WindowLimits { in_pipe_per_config: 1, backlog_per_config: 1, ..WindowLimits::default() };
    let mut audited = Audited::new(Bed::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096));
    let config = audited.bed.delayed("one");
    for (hold, end) in [(Hold::Pause { note: None }, Hold::Resume), (Hold::Disable, Hold::Enable)] {
        let now = audited.bed.now;
        audited.bed.submit_many(config, &[now; 3]);
        audited.bed.hold(config, hold);
        audited.bed.inbox.changed(config);
        audited.bed.go_to(now.plus(Millis::from_secs(60)));
        assert_eq!(audited.look(), overdue(0), "it is held");
        audited.bed.hold(config, end);
        audited.bed.inbox.changed(config);
        // The turn that sees it cannot claim.
        audited.bed.fail("claim", &[Fault::Before]);
        audited.bed.step().expect_err("the fault");
        assert_eq!(audited.look(), overdue(0), "it was held a moment ago");
        audited.bed.now = audited.bed.now.plus(Millis::from_ms(10_001));
        assert_eq!(audited.look(), overdue(3));
        audited.bed.go_to(audited.bed.now);
        while !audited.bed.work().is_empty() {
            audited.bed.go_to(audited.bed.now.plus(TICK));
        }
        assert_eq!(audited.look(), overdue(0));
    }
}

#[test]
fn what_an_outage_left_is_given_time_from_the_first_look_on() {
    let bed = Bed::new();
    let config = bed.delayed("one");
    bed.config("cron", Some(every(10)), |_| {});
    bed.submit_silently(config, at(0));
    let auditor =
        Auditor::new(bed.store.clone(), bed.store.book().clone(), bed.store.shards(), bed.fetcher.holds());
    let look = |now| done(auditor.step(now)).expect("a look");
    assert_eq!(look(at(600_000)), Findings::default());
    assert_eq!(look(at(609_999)), Findings::default());
    assert_eq!(look(at(610_000)), Findings { overdue: 1, schedules: 1, imbalance: 0, orphans: 0 });
}

#[test]
fn schedules_without_a_cursor_of_their_version_or_behind_are_found() {
    let mut audited = Audited::new(Bed::new());
    let config = audited.bed.config("cron", Some(every(10)), |_| {});
    let schedules = |audited: &Audited| audited.look().schedules;
    // Nobody computes its cursor.
    audited.bed.now = at(30_000);
    assert_eq!(schedules(&audited), 0, "a new config has half a minute");
    audited.bed.now = at(30_001);
    assert_eq!(schedules(&audited), 1);
    audited.bed.settle();
    assert_eq!(schedules(&audited), 0);

    // An edit that nobody takes up.
    audited.bed.edit(config, |spec| spec.schedule = Some(every(40)));
    audited.bed.now = at(60_002);
    assert_eq!(schedules(&audited), 1);
    audited.bed.settle();
    assert_eq!(schedules(&audited), 0);

    // A cursor that nobody moves.
    audited.bed.now = at(110_000);
    assert_eq!(schedules(&audited), 0);
    audited.bed.now = at(110_001);
    assert_eq!(schedules(&audited), 1);
    audited.bed.pause(config);
    assert_eq!(schedules(&audited), 0, "a pause is a reason");
    audited.bed.hold(config, Hold::Resume);
    audited.bed.inbox.changed(config);
    audited.bed.settle();
    audited.bed.now = at(111_000);
    assert_eq!(schedules(&audited), 0);
}

#[test]
fn a_look_that_fails_says_so() {
    let audited = Audited::new(Bed::new());
    audited.bed.fail("audit", &[Fault::Before]);
    done(audited.auditor.step(at(0))).expect_err("the fault");
    done(audited.auditor.step(at(0))).expect("the next look");
}

#[test]
fn the_janitor_drops_what_is_kept_long_enough_in_portions() {
    let mut bed = Bed::new();
    let config = bed.delayed("one");
    let due = vec![at(0); 2_500];
    bed.submit_many(config, &due);
    bed.inbox.due(config, at(0));
    let mut worked = 0;
    while worked < due.len() {
        bed.go_to(bed.now.plus(TICK));
        worked += bed.work().len();
    }
    let janitor = Janitor::new(bed.store.clone());
    let step = |now: Timestamp| done(janitor.step(now)).expect("a portion");
    let over = bed.now.plus(RETENTION_DEFAULT);
    assert_eq!(step(at(0).plus(RETENTION_DEFAULT)), 0);
    assert_eq!([step(over), step(over), step(over)], [2_000, 500, 0]);
    assert!(bed.store.dump().ended.is_empty());
}
