//! The retention loop and the auditor.

use tsp_core::config::RETENTION_DEFAULT;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::{Millis, Timestamp};
use tsp_store::Catalog as _;
use tsp_store::catalog::Hold;
use tsp_store::fetching::FetchScope;
use tsp_store_testing::memory::Fault;

use super::fixture::{Fixture, TICK, at, done, every, ms};
use crate::{Auditor, FetcherOptions, Findings, RetentionLoop, WindowLimits};

struct AuditorFixture {
    fixture: Fixture,
    auditor: Auditor,
}

impl AuditorFixture {
    /// An auditor that has looked for the first time long ago.
    fn new(fixture: Fixture) -> Self {
        let auditor = Auditor::new(
            fixture.store.clone(),
            FetchScope::Whole,
            fixture.store.config_cache().clone(),
            fixture.store.shards(),
            fixture.fetcher.holds(),
        );
        done(auditor.step(Timestamp::ZERO)).expect("a look");
        Self { fixture, auditor }
    }

    fn look(&self) -> Findings {
        done(self.auditor.step(self.fixture.now)).expect("a look")
    }
}

fn overdue(rows: i64) -> Findings {
    Findings { overdue: rows, ..Findings::default() }
}

#[test]
fn in_health_everything_is_accounted_for() {
    let mut audited = AuditorFixture::new(Fixture::new());
    let config = audited.fixture.delayed("one");
    audited.fixture.config("cron", Some(every(10)), |_| {});
    audited.fixture.submit(config, at(100));
    audited.fixture.submit(config, at(100_000));
    for second in 0..60 {
        audited.fixture.go_to(at(second * 1_000));
        audited.fixture.work();
        assert_eq!(audited.look(), Findings::default());
    }
    assert_eq!(audited.look().unaccounted(), 0);
}

#[test]
fn rows_that_nobody_claims_are_found() {
    let AuditorFixture { mut fixture, auditor } = AuditorFixture::new(Fixture::new());
    let config = fixture.delayed("one");
    fixture.submit_many(config, &[at(0), at(0), at(60_000)]);
    // The fetcher does nothing.
    fixture.now = at(5_000);
    let look = |fixture: &Fixture| done(auditor.step(fixture.now)).expect("a look");
    assert_eq!(look(&fixture), overdue(0), "not yet");
    fixture.now = at(5_001);
    assert_eq!(look(&fixture), overdue(2));
    assert_eq!(look(&fixture).unaccounted(), 2);
    fixture.pause(config);
    assert_eq!(look(&fixture), overdue(0), "a pause is a reason");
    fixture.hold(config, Hold::Resume);
    fixture.hold(config, Hold::Disable);
    assert_eq!(look(&fixture), overdue(0), "so is a disabled config");
}

/// Nobody runs it, and nobody can end it but by hand.
#[test]
fn a_task_without_a_config_is_found_in_every_state() {
    let mut audited = AuditorFixture::new(Fixture::new());
    let config = audited.fixture.delayed("one");
    audited.fixture.submit_many(config, &[at(0), at(60_000)]);
    audited.fixture.go_to(at(0));
    audited.fixture.begin_all();
    assert_eq!(audited.look(), Findings::default());
    let config_cache = audited.fixture.store.config_cache().clone();
    let known = config_cache.config(config).expect("it is there");
    config_cache.remove_config(config, config_cache.seq());
    assert_eq!(audited.look(), Findings { orphans: 2, ..Findings::default() });
    assert_eq!(audited.look().unaccounted(), 2);
    config_cache.put_config(known, config_cache.seq());
    assert_eq!(audited.look(), Findings::default());
}

#[test]
fn want_of_room_and_a_wait_asked_for_are_reasons_for_a_while() {
    let window = WindowLimits { in_pipe_per_config: 1, backlog_per_config: 1, ..WindowLimits::default() };
    let mut audited =
        AuditorFixture::new(Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096));
    let (slow, limited) = (audited.fixture.delayed("slow"), audited.fixture.delayed("limited"));
    let many = vec![at(0); 2_000];
    audited.fixture.submit_many(slow, &many);
    audited.fixture.submit(limited, at(0));
    audited.fixture.go_to(at(0));
    let running = audited.fixture.begin_all();
    let asked = Verdict {
        park: Some(Millis::from_secs(60)),
        ..Verdict::new(Outcome::Retry(RetryDelay::Exactly(ms(0))), "http_status")
    };
    let row = running.iter().find(|task| task.config == limited).expect("it runs");
    audited.fixture.finish(row, asked);
    audited.fixture.go_to(at(59_999));
    assert_eq!(audited.look(), overdue(0), "both are held on purpose");
    audited.fixture.go_to(at(60_000));
    assert_eq!(audited.look(), overdue(0), "and what was let go is given a moment");

    // A fetcher that stands still has no reason any more, but for the config that is still held.
    let late = audited.fixture.submit_silently(limited, at(60_000));
    audited.fixture.now = at(75_000);
    assert_eq!(audited.look(), overdue(1), "{late}");
}

/// What a long pause has left behind does not fit into the window at once.
#[test]
fn what_was_paused_is_given_a_moment_after_it() {
    let window = WindowLimits { in_pipe_per_config: 1, backlog_per_config: 1, ..WindowLimits::default() };
    let mut audited =
        AuditorFixture::new(Fixture::with(FetcherOptions { window, ..FetcherOptions::default() }, 4_096));
    let config = audited.fixture.delayed("one");
    for (hold, end) in [(Hold::Pause { note: None }, Hold::Resume), (Hold::Disable, Hold::Enable)] {
        let now = audited.fixture.now;
        audited.fixture.submit_many(config, &[now; 3]);
        audited.fixture.hold(config, hold);
        audited.fixture.inbox.changed(config);
        audited.fixture.go_to(now.plus(Millis::from_secs(60)));
        assert_eq!(audited.look(), overdue(0), "it is held");
        audited.fixture.hold(config, end);
        audited.fixture.inbox.changed(config);
        // The turn that sees it cannot claim.
        audited.fixture.fail("claim", &[Fault::Before]);
        audited.fixture.step().expect_err("the fault");
        assert_eq!(audited.look(), overdue(0), "it was held a moment ago");
        audited.fixture.now = audited.fixture.now.plus(Millis::from_ms(10_001));
        assert_eq!(audited.look(), overdue(3));
        audited.fixture.go_to(audited.fixture.now);
        while !audited.fixture.work().is_empty() {
            audited.fixture.go_to(audited.fixture.now.plus(TICK));
        }
        assert_eq!(audited.look(), overdue(0));
    }
}

#[test]
fn what_an_outage_left_is_given_time_from_the_first_look_on() {
    let fixture = Fixture::new();
    let config = fixture.delayed("one");
    fixture.config("cron", Some(every(10)), |_| {});
    fixture.submit_silently(config, at(0));
    let auditor = Auditor::new(
        fixture.store.clone(),
        FetchScope::Whole,
        fixture.store.config_cache().clone(),
        fixture.store.shards(),
        fixture.fetcher.holds(),
    );
    let look = |now| done(auditor.step(now)).expect("a look");
    assert_eq!(look(at(600_000)), Findings::default());
    assert_eq!(look(at(609_999)), Findings::default());
    assert_eq!(look(at(610_000)), Findings { overdue: 1, schedules: 1, imbalance: 0, orphans: 0 });
}

#[test]
fn schedules_without_a_cursor_of_their_version_or_behind_are_found() {
    let mut audited = AuditorFixture::new(Fixture::new());
    let config = audited.fixture.config("cron", Some(every(10)), |_| {});
    let schedules = |audited: &AuditorFixture| audited.look().schedules;
    // Nobody computes its cursor.
    audited.fixture.now = at(30_000);
    assert_eq!(schedules(&audited), 0, "a new config has half a minute");
    audited.fixture.now = at(30_001);
    assert_eq!(schedules(&audited), 1);
    audited.fixture.run_until_idle();
    assert_eq!(schedules(&audited), 0);

    // An edit that nobody takes up.
    audited.fixture.edit(config, |spec| spec.schedule = Some(every(40)));
    audited.fixture.now = at(60_002);
    assert_eq!(schedules(&audited), 1);
    audited.fixture.run_until_idle();
    assert_eq!(schedules(&audited), 0);

    // A cursor that nobody moves.
    audited.fixture.now = at(110_000);
    assert_eq!(schedules(&audited), 0);
    audited.fixture.now = at(110_001);
    assert_eq!(schedules(&audited), 1);
    audited.fixture.pause(config);
    assert_eq!(schedules(&audited), 0, "a pause is a reason");
    audited.fixture.hold(config, Hold::Resume);
    audited.fixture.inbox.changed(config);
    audited.fixture.run_until_idle();
    audited.fixture.now = at(111_000);
    assert_eq!(schedules(&audited), 0);
}

#[test]
fn a_look_that_fails_says_so() {
    let audited = AuditorFixture::new(Fixture::new());
    audited.fixture.fail("audit", &[Fault::Before]);
    done(audited.auditor.step(at(0))).expect_err("the fault");
    done(audited.auditor.step(at(0))).expect("the next look");
}

#[test]
fn retention_drops_what_is_kept_long_enough_in_portions() {
    let mut fixture = Fixture::new();
    let config = fixture.delayed("one");
    let due = vec![at(0); 2_500];
    fixture.submit_many(config, &due);
    fixture.inbox.due(config, at(0));
    let mut worked = 0;
    while worked < due.len() {
        fixture.go_to(fixture.now.plus(TICK));
        worked += fixture.work().len();
    }
    let retention = RetentionLoop::new(fixture.store.clone());
    let step = |now: Timestamp| done(retention.step(now)).expect("a portion");
    let over = fixture.now.plus(RETENTION_DEFAULT);
    assert_eq!(step(at(0).plus(RETENTION_DEFAULT)), 0);
    assert_eq!([step(over), step(over), step(over)], [2_000, 500, 0]);
    assert!(fixture.store.dump().ended.is_empty());
}
