//! The state machine of DESIGN.md section 5.2: the only place where a task's state changes.
//!
//! [`transition`] is pure. A store loads a row, asks, and saves what it is told; it chooses nothing. Which tasks a
//! config takes at all is decided in [`submit`].
//! `version` fences messages, owners and operators: a store compares it when it saves. A finish is
//! fenced by `(executing, attempt, node)` instead, because a cancel or reset may have come since begin.

mod age;
#[cfg(test)]
mod age_tests;
mod attempt;
pub mod claim;
mod command;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod histories;
mod operator;
#[cfg(test)]
mod operator_tests;
#[cfg(test)]
mod properties;
pub mod submit;
#[cfg(test)]
mod submit_tests;
#[cfg(test)]
mod table_tests;

use bytes::Bytes;

use crate::config::TaskConfig;
use crate::ids::NodeId;
use crate::outcome::Verdict;
use crate::retry::RetryPolicy;
use crate::task::{Action, AttemptRecord, EndResult, Status, Task, TokenHash};
use crate::time::{Millis, Timestamp};

pub use command::TaskCommand;

/// A begin that comes this much too early waits; after an earlier one the row returns to scheduled.
pub const BEGIN_WAITS_UP_TO: Millis = Millis::from_secs(1);
/// A task that was running in this many lost processes ends failed, reason `crashes_workers`.
pub const WORKER_LOSSES_MAX: u32 = 10;

/// What happens to a row.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// The shard's owner takes it into its window.
    Claim {
        epoch: i64,
    },
    /// A worker starts an attempt. `runnable`: the config is enabled and not paused.
    Begin {
        version: i64,
        node: NodeId,
        runnable: bool,
        token: Option<TokenHash>,
    },
    /// Back to scheduled, not an attempt: pause, shutdown, lost message, new owner.
    Release {
        version: i64,
    },
    /// The outcome of the running attempt.
    Finish {
        attempt: u32,
        node: NodeId,
        verdict: &'a Verdict,
        rules: Rules<'a>,
    },
    /// The process that ran the attempt is gone.
    NodeLost {
        node: NodeId,
        rules: Rules<'a>,
    },
    /// The receiver completes what it accepted.
    Complete {
        token: &'a TokenHash,
        completion: Completion,
        rules: Rules<'a>,
    },
    /// The receiver did not complete in time.
    Deadline {
        rules: Rules<'a>,
    },
    /// The receiver reports how far it is.
    Progress {
        token: &'a TokenHash,
        report: ProgressReport,
        rules: Rules<'a>,
    },
    Pause,
    Resume,
    Postpone {
        execute_at: Timestamp,
    },
    /// A submit with the key of this open task and `on_duplicate_key: reset`.
    Reset {
        execute_at: Timestamp,
        payload: Option<Bytes>,
    },
    Run,
    Cancel,
    Replay,
}

/// What the config and randomness contribute to a decision.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub retry: &'a RetryPolicy,
    /// A random number in `0.0..1.0`, for the jitter.
    pub jitter_fraction: f64,
    /// How long a 202 may take to complete, of an attempt that was begun with a token.
    pub deadline: Option<Millis>,
}

/// Of a row whose config is gone.
static NO_CONFIG: RetryPolicy = RetryPolicy::DEFAULT;

impl<'a> Rules<'a> {
    /// A config with open tasks is not deleted; if one is gone all the same, its tasks still end.
    pub fn of(config: Option<&'a TaskConfig>, jitter_fraction: f64) -> Self {
        Self {
            retry: config.map_or(&NO_CONFIG, |config| &config.spec.retry),
            jitter_fraction,
            deadline: config.map(|config| config.spec.asynchronous.deadline),
        }
    }
}

/// How a receiver completes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    Done { message: Option<String> },
    Retry { after: Option<Millis>, message: Option<String> },
    Fail { message: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgressReport {
    /// 0..=100.
    pub percent: Option<u8>,
    pub message: Option<String>,
    /// The deadline becomes now plus this, at most the config's own, never earlier than it is.
    pub extend: Option<Millis>,
}

/// The row as it becomes, and what else is to be saved and reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub task: Task,
    /// The attempt that this closes.
    pub closed: Option<AttemptRecord>,
    pub outcome_detail: OutcomeDetail,
}

/// What the caller must know beyond the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeDetail {
    None,
    /// Cancel of an executing task: this attempt is its last.
    TooLate,
    /// Reset of an executing task: it takes the new time once its attempt has ended.
    AfterCurrent,
}

/// Why nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The message or copy is of another version of the row, or the row is elsewhere.
    Stale,
    /// Ahead of its time by at most [`BEGIN_WAITS_UP_TO`].
    NotDue {
        due_at: Timestamp,
    },
    /// Somebody else closed the attempt first; the message is acknowledged.
    AttemptClosed,
    /// Not here: what is allowed is [`Status::actions`].
    NotAllowed {
        status: Status,
        action: Action,
    },
    AlreadyEnded,
    WrongToken,
    /// It is already so; asked twice, answered alike.
    Unchanged,
}

/// Decides what `event` makes of `task` at `now`.
pub fn transition(task: &Task, event: &Event<'_>, now: Timestamp) -> Result<Change, Refusal> {
    match event {
        Event::Claim { epoch } => attempt::claim(task, *epoch, now),
        Event::Begin { version, node, runnable, token } => {
            attempt::begin(task, *version, *node, *runnable, *token, now)
        }
        Event::Release { version } => attempt::release(task, *version),
        Event::Finish { attempt, node, verdict, rules } => {
            attempt::finish(task, *attempt, *node, verdict, rules, now)
        }
        Event::NodeLost { node, rules } => attempt::node_lost(task, *node, rules, now),
        Event::Complete { token, completion, rules } => {
            attempt::complete(task, token, completion, rules, now)
        }
        Event::Deadline { rules } => attempt::deadline(task, rules, now),
        Event::Progress { token, report, rules } => attempt::progress(task, token, report, rules, now),
        Event::Pause => operator::pause(task),
        Event::Resume => operator::resume(task, now),
        Event::Postpone { execute_at } => operator::postpone(task, *execute_at, now),
        Event::Reset { execute_at, payload } => operator::reset(task, *execute_at, payload.as_ref(), now),
        Event::Run => operator::run(task, now),
        Event::Cancel => operator::cancel(task, now),
        Event::Replay => operator::replay(task, now),
    }
}

/// A changed row: one version up, nothing else to say.
fn changed(task: &Task, edit: impl FnOnce(&mut Task)) -> Change {
    let mut task = task.clone();
    task.version += 1;
    edit(&mut task);
    Change { task, closed: None, outcome_detail: OutcomeDetail::None }
}

/// The row is scheduled and waits for `due_at`; for the time it was promised for, when the clock has gone
/// back behind that since.
fn schedule(task: &mut Task, due_at: Timestamp) {
    task.status = Status::Scheduled;
    task.due_at = due_at.max(task.execute_at);
    task.node = None;
}

/// The row's promise starts again: a new time, a new age, no failed attempts.
fn renew(task: &mut Task, execute_at: Timestamp, now: Timestamp) {
    let due_at = execute_at.max(now);
    task.execute_at = execute_at;
    task.age_from = due_at;
    schedule(task, due_at);
}

fn end(task: &mut Task, result: EndResult, now: Timestamp) {
    task.status = Status::Ended;
    task.result = Some(result);
    task.ended_at = Some(now);
    task.node = None;
    task.cancel_requested = false;
    if let Some(extra) = &mut task.extra {
        extra.next = None;
    }
}

fn expire(task: &Task, now: Timestamp) -> Change {
    changed(task, |task| end(task, EndResult::Expired, now))
}
