//! `max_age` counts failing, not waiting.

use proptest::collection::vec;
use proptest::prelude::*;

use super::fixtures::*;
use super::histories::*;
use super::*;
use crate::outcome::{Outcome, OutcomeKind, RetryDelay};

const DAYS: i64 = 3 * 86_400;

/// Five attempts, a minute apart, for two days.
fn two_days() -> RetryPolicy {
    RetryPolicy { max_attempts: 5, max_age: Some(Millis::from_days(2)), ..policy() }
}

/// Claims and begins a scheduled row.
fn start(task: &Task, now: Timestamp) -> Task {
    let queued = go(task, &Event::Claim { epoch: 5 }, now).task;
    go(&queued, &begin(&queued), now).task
}

fn finished(task: &Task, outcome: Outcome, now: Timestamp) -> Task {
    let verdict = Verdict::new(outcome, "told");
    let retry = two_days();
    let rules = Rules { deadline: Some(Millis::from_days(3)), ..rules(&retry) };
    go(task, &Event::Finish { attempt: task.attempt, node: NODE, verdict: &verdict, rules }, now).task
}

fn failed_once(task: &Task, now: Timestamp) -> Task {
    finished(task, Outcome::Retry(RetryDelay::Backoff), now)
}

/// A row that has waited three days in one way or another, and is executing then.
fn after_three_days(how: &str) -> Task {
    let retry = two_days();
    let then = after(DAYS);
    let waited = match how {
        "pause" => go(&paused(), &Event::Resume, then).task,
        "pause in the back-off" => {
            let waiting = failed_once(&executing(), NOW);
            let held = go(&waiting, &Event::Pause, after(1)).task;
            go(&held, &Event::Resume, then).task
        }
        "run of what is late" => go(&scheduled(), &Event::Run, then).task,
        "a config that is held, a limit, an outage" => scheduled(),
        "an outage in the back-off" => failed_once(&executing(), NOW),
        "snooze" => finished(&executing(), Outcome::Snooze { until: then }, NOW),
        "Retry-After" => {
            // An hour is as much as a receiver may ask for, so it takes many; only the first is waited out here.
            let asked = Outcome::Retry(RetryDelay::Exactly(secs(DAYS)));
            finished(&executing(), asked, NOW)
        }
        "awaiting" => {
            let accepted = finished(&executing(), Outcome::Accepted, NOW);
            let event = Event::Deadline { rules: rules(&retry) };
            return start(&go(&accepted, &event, then).task, then.plus(secs(60)));
        }
        "a worker that was lost with everything else" => {
            let event = Event::NodeLost { node: NODE, rules: rules(&retry) };
            go(&executing(), &event, then).task
        }
        other => panic!("no such wait: {other}"),
    };
    start(&waited, then)
}

#[test]
fn no_wait_but_the_back_off_ages_a_task() {
    for how in [
        "pause",
        "pause in the back-off",
        "run of what is late",
        "a config that is held, a limit, an outage",
        "an outage in the back-off",
        "snooze",
        "Retry-After",
        "awaiting",
        "a worker that was lost with everything else",
    ] {
        let task = after_three_days(how);
        let now = task.started_at.expect("it was begun");
        let again = failed_once(&task, now);
        assert_eq!((again.status, again.result), (Status::Scheduled, None), "after {how}");
        assert!(now.since(again.age_from) <= secs(60), "{how}: {:?}", now.since(again.age_from));
    }
}

#[test]
fn running_and_back_off_do() {
    // An attempt that fails after two days less a minute may be retried; a second later it may not.
    let two = 2 * 86_400 - 60;
    for (took, result) in [(two, None), (two + 1, Some(EndResult::Failed))] {
        let task = failed_once(&executing(), after(took));
        assert_eq!(task.result, result, "{took}");
    }
    // 90 s of running, a minute of back-off and a minute to come.
    let retry = RetryPolicy { max_age: Some(secs(210)), ..two_days() };
    let fail = |task: &Task, now| {
        let verdict = Verdict::retry("told");
        let event =
            Event::Finish { attempt: task.attempt, node: NODE, verdict: &verdict, rules: rules(&retry) };
        go(task, &event, now).task
    };
    let waiting = fail(&executing(), after(60));
    let second = start(&waiting, after(900));
    assert_eq!(fail(&second, after(930)).result, None);
    assert_eq!(fail(&second, after(931)).result, Some(EndResult::Failed));
}

#[test]
fn a_snooze_that_is_cut_short_gives_no_credit() {
    let snoozed = finished(&executing(), Outcome::Snooze { until: after(DAYS) }, after(30));
    let second = start(&go(&snoozed, &Event::Run, after(40)).task, after(40));
    assert_eq!(after(40).since(failed_once(&second, after(40)).age_from), secs(30));
}

#[test]
fn a_new_promise_is_not_as_old_as_the_one_before() {
    let old = failed_once(&executing(), after(86_400));
    let reset = Event::Reset { execute_at: after(90_000), payload: None };
    for event in [Event::Postpone { execute_at: after(90_000) }, reset] {
        let moved = go(&old, &event, after(86_401)).task;
        let begun = start(&moved, after(90_000));
        assert_eq!(failed_once(&begun, after(90_010)).age_from, after(90_000));
    }
    let again = go(&finished(&executing(), Outcome::Fail, after(86_400)), &Event::Replay, after(DAYS)).task;
    assert_eq!(failed_once(&start(&again, after(DAYS + 5)), after(DAYS + 6)).age_from, after(DAYS + 5));
}

/// What a history has surely spent, and at most, on running and back-off since its promise was last made again.
#[derive(Debug, Default)]
struct SpentTime {
    running: Millis,
    gaps: i64,
}

/// Histories whose tasks end of age, not of attempts.
fn ageing() -> impl Strategy<Value = History> {
    (setting(), 60i64..3_000, vec(step(), 40..80)).prop_map(|(mut setting, age, steps)| {
        setting.retry.max_attempts = 1_000;
        setting.retry.max_age = Some(secs(age));
        play(setting, steps)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_task_fails_of_age_when_it_has_failed_for_so_long_and_only_then(history in ageing()) {
        let setting = &history.setting;
        let backoff = setting.retry.base_delay(1);
        let mut spent = SpentTime::default();
        for (moment, change) in history.changes() {
            let again = matches!(&moment.step, Step::Postpone(_) | Step::Reset(_) | Step::Operators(Action::Replay));
            let kind = change.closed.as_ref().map(|closed| closed.kind);
            let ran = moment.before.started_at.filter(|_| moment.before.status == Status::Executing);
            if let Some(started_at) = ran.filter(|_| kind != Some(OutcomeKind::Lost) && !again)
                && change.task.status != Status::Executing
            {
                spent.running = spent.running.saturating_add(moment.now.since(started_at));
            }
            if kind == Some(OutcomeKind::Retry) && change.task.next_run().is_none() {
                let most = setting.retry.max_age.unwrap_or(Millis::MAX);
                let at_most = spent.running.saturating_add(backoff.saturating_mul(spent.gaps + 1));
                if change.task.is_open() && moment.before.next_run().is_none() {
                    prop_assert!(spent.running <= most, "too old to come again: {spent:?}");
                } else if change.task.result == Some(EndResult::Failed)
                    && change.task.failed_attempts < setting.retry.max_attempts
                {
                    prop_assert!(at_most > most, "failed of an age it does not have: {spent:?}");
                }
                spent.gaps += 1;
            }
            // A reset that waits for the attempt takes effect as it is closed.
            let renewed = moment.before.next_run().is_some() && kind.is_some();
            if renewed || (again && change.outcome_detail != OutcomeDetail::AfterCurrent) {
                spent = SpentTime::default();
            }
        }
    }
}
