//! Rows in each state, made the way a store makes them: by transitions alone.

use bytes::Bytes;

use super::*;
use crate::ids::{ConfigId, TaskId};
use crate::retry::Backoff;
use crate::task::{NewTask, Origin};

pub(super) const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
pub(super) const NODE: NodeId = NodeId::new(7);
pub(super) const OTHER_NODE: NodeId = NodeId::new(8);
pub(super) const TOKEN: TokenHash = [1; 32];
pub(super) const OLD_TOKEN: TokenHash = [2; 32];
/// How long a 202 may take to complete.
pub(super) const DEADLINE: Millis = Millis::from_mins(15);

pub(super) const fn secs(seconds: i64) -> Millis {
    Millis::from_secs(seconds)
}

pub(super) fn after(seconds: i64) -> Timestamp {
    NOW.plus(secs(seconds))
}

/// Three attempts, a minute apart, without jitter and age.
pub(super) fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        backoff: Backoff::List(vec![secs(60)]),
        jitter: 0.0,
        max_age: None,
        non_retryable_status: Vec::new(),
    }
}

pub(super) const fn rules(retry: &RetryPolicy) -> Rules<'_> {
    Rules { retry, jitter_fraction: 0.5, deadline: Some(DEADLINE) }
}

/// Submitted at [`NOW`] for then.
pub(super) fn scheduled() -> Task {
    let new = NewTask {
        id: TaskId::new(42),
        config: ConfigId::new(1),
        key: None,
        execute_at: NOW,
        payload: Some(Bytes::from_static(b"{}")),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    Task::new(new, NOW)
}

pub(super) fn expiring(task: Task) -> Task {
    Task { expire_after: Some(secs(30)), ..task }
}

pub(super) fn queued() -> Task {
    go(&scheduled(), &Event::Claim { epoch: 5 }, NOW).task
}

pub(super) fn executing() -> Task {
    go(&queued(), &begin(&queued()), NOW).task
}

pub(super) fn awaiting() -> Task {
    let verdict = Verdict::new(crate::outcome::Outcome::Accepted, "accepted");
    go(&executing(), &finish(&verdict, &policy()), NOW).task
}

pub(super) fn paused() -> Task {
    go(&scheduled(), &Event::Pause, NOW).task
}

pub(super) fn ended() -> Task {
    go(&executing(), &finish(&Verdict::done(), &policy()), NOW).task
}

/// One row in each state.
pub(super) fn each_state() -> [Task; 6] {
    [scheduled(), queued(), executing(), paused(), awaiting(), ended()]
}

pub(super) fn begin(task: &Task) -> Event<'static> {
    Event::Begin { version: task.version, node: NODE, runnable: true, token: Some(TOKEN) }
}

/// The outcome of the first attempt.
pub(super) fn finish<'a>(verdict: &'a Verdict, retry: &'a RetryPolicy) -> Event<'a> {
    Event::Finish { attempt: 1, node: NODE, verdict, rules: rules(retry) }
}

/// The change that must happen; it must raise the version by one and keep what no event may touch.
#[track_caller]
pub(super) fn go(task: &Task, event: &Event<'_>, now: Timestamp) -> Change {
    let change = transition(task, event, now)
        .unwrap_or_else(|why| panic!("{event:?} of a row at {:?} was refused: {why:?}", task.status));
    assert_eq!(change.task.version, task.version + 1, "each transition adds 1 to the version");
    assert_eq!(change.task.id, task.id);
    assert_eq!(change.task.created_at, task.created_at);
    change
}

#[track_caller]
pub(super) fn refused(task: &Task, event: &Event<'_>, now: Timestamp) -> Refusal {
    match transition(task, event, now) {
        Err(why) => why,
        Ok(change) => {
            panic!("{event:?} of a row at {:?} must be refused, but gave {:?}", task.status, change.task)
        }
    }
}
