//! A task's row: one promise, open or ended (DESIGN.md sections 5.2 and 6).

mod phase;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{AppId, ConfigId, NodeId, TaskId};
use crate::outcome::{OutcomeKind, Reason};
use crate::retry::RetryPolicy;
use crate::task_key::TaskKey;
use crate::time::{Millis, Timestamp};
use crate::transition::claim::Claimable;

pub use phase::Phase;

/// Where a task stands. The numbers are public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    Scheduled = 0,
    Queued = 10,
    Executing = 30,
    Paused = 40,
    Awaiting = 45,
    Ended = 50,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Queued, Self::Executing, Self::Paused, Self::Awaiting, Self::Ended];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| i64::from(status.code()) == code)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Executing => "executing",
            Self::Paused => "paused",
            Self::Awaiting => "awaiting",
            Self::Ended => "ended",
        }
    }

    /// What an operator may do to a row in this state; the server sends it with each task.
    pub const fn actions(self) -> &'static [Action] {
        match self {
            Self::Scheduled => &[Action::Cancel, Action::Pause, Action::Postpone, Action::Run],
            Self::Queued => &[Action::Cancel, Action::Pause, Action::Postpone],
            Self::Executing => &[Action::Cancel],
            Self::Paused => &[Action::Cancel, Action::Postpone, Action::Resume, Action::Run],
            Self::Awaiting => &[Action::Cancel, Action::Complete],
            Self::Ended => &[Action::Replay],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Cancel,
    Complete,
    Pause,
    Postpone,
    Replay,
    Resume,
    Run,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Complete => "complete",
            Self::Pause => "pause",
            Self::Postpone => "postpone",
            Self::Replay => "replay",
            Self::Resume => "resume",
            Self::Run => "run",
        }
    }
}

/// How an ended task ended. The numbers are part of the storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndResult {
    Succeeded = 1,
    Failed = 2,
    Cancelled = 3,
    Expired = 4,
    Skipped = 5,
}

impl EndResult {
    pub const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Expired, Self::Skipped];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|result| i64::from(result.code()) == code)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a task came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Origin {
    #[default]
    Submit = 0,
    Schedule = 1,
    /// `POST …/configs/{config}/run`.
    Run = 2,
}

impl Origin {
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: i64) -> Option<Self> {
        [Self::Submit, Self::Schedule, Self::Run].into_iter().find(|origin| i64::from(origin.code()) == code)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Schedule => "schedule",
            Self::Run => "run",
        }
    }
}

/// SHA-256 of a completion token.
pub type TokenHash = [u8; 32];

/// One row. Its state changes only through [`crate::transition::transition`].
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub id: TaskId,
    pub config: ConfigId,
    pub key: Option<TaskKey>,
    /// 0 for the canonical task of its key; its own id for one that was `add`ed beside it.
    pub key_slot: i64,
    pub status: Status,
    /// Rises by 1 with every transition.
    pub version: i64,
    pub execute_at: Timestamp,
    pub due_at: Timestamp,
    /// Where `max_age` counts from: the begin of the first attempt since submit, reset, postpone or replay,
    /// later by every wait that was not the retry policy's own (`transition/age.rs`). Stored as `first_due_at`.
    pub age_from: Timestamp,
    pub created_at: Timestamp,
    /// Begin of the latest attempt.
    pub started_at: Option<Timestamp>,
    /// When that attempt was due, for its lateness.
    pub begun_due_at: Option<Timestamp>,
    /// The fencing token: the number of begun attempts.
    pub attempt: u32,
    /// What `max_attempts` limits.
    pub failed_attempts: u32,
    /// How many processes were lost with this task.
    pub worker_losses: u32,
    /// The owner's epoch, while queued.
    pub epoch: i64,
    /// Who runs it, while executing.
    pub node: Option<NodeId>,
    /// Cancel came while it was executing: this attempt is the last.
    pub cancel_requested: bool,
    /// Of the running or awaited attempt; kept after the end so that `complete` stays idempotent.
    pub token: Option<TokenHash>,
    pub expire_after: Option<Millis>,
    pub origin: Origin,
    pub sharding_id: u16,
    pub sharding_count: u16,
    pub parent: Option<TaskId>,
    /// Raw JSON, sent byte for byte.
    pub payload: Option<Bytes>,
    pub last_outcome: Option<LastOutcome>,
    /// Rarely present, so kept together.
    pub extra: Option<Box<TaskExtra>>,
    /// Set when it has ended.
    pub result: Option<EndResult>,
    pub ended_at: Option<Timestamp>,
}

/// The parts of a row that most tasks do not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskExtra {
    /// Headers of this task's callback; they win over the config's.
    pub headers: BTreeMap<String, String>,
    /// The config's policy with this task's overrides merged over it at submit.
    pub retry: Option<RetryPolicy>,
    pub traceparent: Option<String>,
    /// Which app submitted it, where that is not the config's own.
    pub submitter: Option<AppId>,
    /// A reset that waits for the running attempt to end.
    pub next: Option<NextRun>,
    pub progress: Option<Progress>,
    /// The answer of the one successful first attempt, which has no attempt row of its own.
    pub excerpt: Option<Box<str>>,
}

impl TaskExtra {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let next = self.next.as_ref().and_then(|next| next.payload.as_ref());
        size_of::<Self>()
            + headers
            + next.map_or(0, Bytes::len)
            + self.excerpt.as_ref().map_or(0, |it| it.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOutcome {
    pub attempt: u32,
    pub kind: OutcomeKind,
    pub reason: Reason,
    pub http_status: Option<u16>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRun {
    pub execute_at: Timestamp,
    /// `None` leaves the payload as it is.
    pub payload: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub percent: Option<u8>,
    pub message: Option<String>,
    pub at: Timestamp,
}

/// One closed attempt, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    pub task: TaskId,
    pub attempt: u32,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub due_at: Timestamp,
    pub node: Option<NodeId>,
    pub kind: OutcomeKind,
    pub reason: Reason,
    pub http_status: Option<u16>,
    pub excerpt: Option<Box<str>>,
}

/// What a new task is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    pub id: TaskId,
    pub config: ConfigId,
    pub key: Option<TaskKey>,
    pub execute_at: Timestamp,
    pub payload: Option<Bytes>,
    pub expire_after: Option<Millis>,
    pub origin: Origin,
    pub extra: Option<Box<TaskExtra>>,
}

impl Task {
    /// A submitted or scheduled task. A past `execute_at` is kept and due now (API.md section 3).
    pub fn new(new: NewTask, now: Timestamp) -> Self {
        let due_at = new.execute_at.max(now);
        Self {
            id: new.id,
            config: new.config,
            key: new.key,
            key_slot: 0,
            status: Status::Scheduled,
            version: 1,
            execute_at: new.execute_at,
            due_at,
            age_from: due_at,
            created_at: now,
            started_at: None,
            begun_due_at: None,
            attempt: 0,
            failed_attempts: 0,
            worker_losses: 0,
            epoch: 0,
            node: None,
            cancel_requested: false,
            token: None,
            expire_after: new.expire_after,
            origin: new.origin,
            sharding_id: 0,
            sharding_count: 1,
            parent: None,
            payload: new.payload,
            last_outcome: None,
            extra: new.extra,
            result: None,
            ended_at: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.status != Status::Ended
    }

    /// Its `expire_after` has passed before a first attempt.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        Claimable::from(self).is_expired(now)
    }

    /// About what it takes up in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.payload.as_ref().map_or(0, Bytes::len)
            + self.extra.as_deref().map_or(0, TaskExtra::bytes)
    }

    pub fn next_run(&self) -> Option<&NextRun> {
        self.extra.as_ref().and_then(|extra| extra.next.as_ref())
    }

    pub fn extra_mut(&mut self) -> &mut TaskExtra {
        self.extra.get_or_insert_default()
    }

    /// The retry policy that holds for this task: its own, else the config's.
    pub fn retry<'a>(&'a self, config: &'a RetryPolicy) -> &'a RetryPolicy {
        self.extra.as_ref().and_then(|extra| extra.retry.as_ref()).unwrap_or(config)
    }
}
