//! Random histories of a task: good steps, faults, and operators, each with right and wrong versions, nodes,
//! attempts and tokens.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::fixtures::*;
use super::*;
use crate::outcome::{Outcome, RetryDelay};
use crate::retry::Backoff;

const STEPS: std::ops::Range<usize> = 10..80;

/// What may happen next.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Wait(i64),
    Claim,
    /// `late`: by a message of an earlier version.
    Begin {
        runnable: bool,
        token: bool,
        late: bool,
    },
    Release {
        late: bool,
    },
    /// `wrong`: 1 an earlier attempt, 2 another node.
    Finish {
        outcome: Outcome,
        wrong: u8,
    },
    NodeLost,
    /// `back`: the token of that many begins ago.
    Complete {
        completion: Completion,
        back: usize,
    },
    Deadline,
    Progress {
        extend: Option<i64>,
        back: usize,
    },
    Postpone(i64),
    Reset(i64),
    Operators(Action),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        1 => Just(Outcome::Done),
        4 => Just(Outcome::Retry(RetryDelay::Backoff)),
        1 => (0i64..100).prop_map(|s| Outcome::Retry(RetryDelay::Exactly(secs(s)))),
        1 => (0i64..9_000).prop_map(|s| Outcome::Retry(RetryDelay::RetryAfter(secs(s)))),
        1 => Just(Outcome::Fail),
        5 => Just(Outcome::Accepted),
        2 => (-100i64..100).prop_map(|s| Outcome::Snooze { until: after(s) }),
    ]
}

fn completion() -> impl Strategy<Value = Completion> {
    prop_oneof![
        Just(Completion::Done { message: None }),
        Just(Completion::Fail { message: None }),
        (0i64..100).prop_map(|s| Completion::Retry { after: (s > 50).then_some(secs(s)), message: None }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let wrong = || prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let back = || prop_oneof![4 => Just(0usize), 1 => Just(1), 1 => Just(2)];
    let rarely = || prop::bool::weighted(0.1);
    let actions = [Action::Pause, Action::Resume, Action::Run, Action::Cancel, Action::Replay];
    prop_oneof![
        6 => prop_oneof![Just(0i64), Just(1), Just(1_000), 0i64..2_000_000].prop_map(Step::Wait),
        10 => Just(Step::Claim),
        10 => (prop::bool::weighted(0.9), prop::bool::weighted(0.8), rarely())
            .prop_map(|(runnable, token, late)| Step::Begin { runnable, token, late }),
        1 => rarely().prop_map(|late| Step::Release { late }),
        10 => (outcome(), wrong()).prop_map(|(outcome, wrong)| Step::Finish { outcome, wrong }),
        2 => Just(Step::NodeLost),
        3 => (completion(), back()).prop_map(|(completion, back)| Step::Complete { completion, back }),
        2 => Just(Step::Deadline),
        4 => (prop::option::of(0i64..2_000), back())
            .prop_map(|(extend, back)| Step::Progress { extend, back }),
        2 => (-1_000i64..1_000).prop_map(Step::Postpone),
        2 => (-1_000i64..1_000).prop_map(Step::Reset),
        6 => prop::sample::select(actions.to_vec()).prop_map(Step::Operators),
    ]
}

/// What the steps are played with.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) retry: RetryPolicy,
    pub(super) deadline: Option<Millis>,
    pub(super) expire_after: Option<Millis>,
}

pub(super) fn setting() -> impl Strategy<Value = Setting> {
    let max_age = prop::option::of(1i64..5_000);
    (1u32..6, 0i64..120, max_age, prop::bool::weighted(0.8), prop::option::weighted(0.3, 0i64..3_000))
        .prop_map(|(max_attempts, backoff, max_age, is_async, expire_after)| Setting {
            retry: RetryPolicy {
                max_attempts,
                backoff: Backoff::List(vec![secs(backoff)]),
                max_age: max_age.map(secs),
                ..policy()
            },
            deadline: is_async.then_some(DEADLINE),
            expire_after: expire_after.map(secs),
        })
}

/// One step that was taken.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) before: Task,
    pub(super) step: Step,
    pub(super) now: Timestamp,
    pub(super) answer: Result<Change, Refusal>,
}

#[derive(Debug)]
pub(super) struct History {
    pub(super) setting: Setting,
    pub(super) moments: Vec<Moment>,
    pub(super) end: Task,
    pub(super) now: Timestamp,
}

impl History {
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Moment, &Change)> {
        self.moments.iter().filter_map(|moment| Some((moment, moment.answer.as_ref().ok()?)))
    }
}

pub(super) fn history() -> impl Strategy<Value = History> {
    (setting(), vec(step(), STEPS)).prop_map(|(setting, steps)| play(setting, steps))
}

/// A token for each attempt, so that an old one can be tried.
pub(super) fn token_of(attempt: u32) -> TokenHash {
    let mut token = [0; 32];
    token[..4].copy_from_slice(&attempt.to_le_bytes());
    token
}

pub(super) fn play(setting: Setting, steps: Vec<Step>) -> History {
    let mut task = Task { expire_after: setting.expire_after, ..scheduled() };
    let mut now = NOW;
    let mut moments = Vec::new();
    for step in steps {
        if let Step::Wait(ms) = step {
            now = now.plus(Millis::from_ms(ms));
            continue;
        }
        let answer = take(&task, &step, &setting, now);
        let next = answer.as_ref().map_or_else(|_| task.clone(), |change| change.task.clone());
        moments.push(Moment { before: task, step, now, answer });
        task = next;
    }
    History { setting, moments, end: task, now }
}

pub(super) fn take(task: &Task, step: &Step, setting: &Setting, now: Timestamp) -> Result<Change, Refusal> {
    let rules = Rules { retry: &setting.retry, jitter_fraction: 0.5, deadline: setting.deadline };
    let version = |late: bool| task.version - i64::from(late);
    let old = |back: usize| token_of(task.attempt.wrapping_sub(u32::try_from(back).unwrap_or(0)));
    let at = |seconds: i64| now.plus(secs(seconds));
    let token;
    let verdict;
    let event = match step {
        Step::Wait(_) => unreachable!("waiting is no event"),
        Step::Claim => Event::Claim { epoch: 1 },
        Step::Begin { runnable, token, late } => {
            let token = token.then(|| token_of(task.attempt + 1));
            Event::Begin { version: version(*late), node: NODE, runnable: *runnable, token }
        }
        Step::Release { late } => Event::Release { version: version(*late) },
        Step::Finish { outcome, wrong } => {
            verdict = Verdict::new(*outcome, "told");
            let attempt = task.attempt.wrapping_sub(u32::from(*wrong == 1));
            let node = if *wrong == 2 { OTHER_NODE } else { NODE };
            Event::Finish { attempt, node, verdict: &verdict, rules }
        }
        Step::NodeLost => Event::NodeLost { node: NODE, rules },
        Step::Complete { completion, back } => {
            token = old(*back);
            Event::Complete { token: &token, completion: completion.clone(), rules }
        }
        Step::Deadline => Event::Deadline { rules },
        Step::Progress { extend, back } => {
            token = old(*back);
            let report = ProgressReport { extend: extend.map(secs), ..ProgressReport::default() };
            Event::Progress { token: &token, report, rules }
        }
        Step::Postpone(seconds) => Event::Postpone { execute_at: at(*seconds) },
        Step::Reset(seconds) => {
            let payload = Bytes::from(seconds.to_string());
            Event::Reset { execute_at: at(*seconds), payload: Some(payload) }
        }
        Step::Operators(action) => operator_event(*action),
    };
    transition(task, &event, now)
}

pub(super) fn operator_event(action: Action) -> Event<'static> {
    match action {
        Action::Pause => Event::Pause,
        Action::Resume => Event::Resume,
        Action::Run => Event::Run,
        Action::Cancel => Event::Cancel,
        Action::Replay => Event::Replay,
        Action::Postpone => Event::Postpone { execute_at: after(60) },
        Action::Complete => unreachable!("a completion needs a token"),
    }
}
