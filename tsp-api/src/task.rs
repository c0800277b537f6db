//! A task as callers see it (API.md section 3).
//!
//! These are the documents as a client reads them. The server writes the same ones from its rows with
//! [`json`], without building them first.

pub mod change;
pub mod json;
pub mod submit;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tsp_core::task::Status;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::id::Id;
use crate::time::Time;

/// One promise: one callback at one time, open or ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// A decimal number as text; it carries the time it was made and its shard.
    pub id: Id,
    pub app: String,
    pub config: String,
    /// The business key its caller chose.
    #[schema(required)]
    pub key: Option<String>,
    /// The number of `state`: 0, 10, 30, 40, 45 or 50.
    #[schema(value_type = StatusNumber)]
    pub status: u8,
    pub state: TaskState,
    /// How it ended; null while it is open.
    #[schema(required)]
    pub result: Option<TaskResult>,
    /// The time it was promised for.
    pub execute_at: Time,
    /// When the next attempt may start; at 45 the deadline.
    pub due_at: Time,
    pub created_at: Time,
    /// Begin of the latest attempt.
    #[schema(required)]
    pub started_at: Option<Time>,
    #[schema(required)]
    pub ended_at: Option<Time>,
    /// The fencing token: how many attempts were begun.
    pub attempt: u32,
    /// Rises by 1 with every change.
    pub version: i64,
    /// Which part of its occurrence this is, from 0.
    pub sharding_id: u16,
    pub sharding_count: u16,
    #[schema(required)]
    pub parent_id: Option<Id>,
    /// Byte for byte as it was submitted. In lists only with `include=payload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    #[schema(required)]
    pub last_outcome: Option<LastOutcome>,
    /// What may be done to it now.
    pub actions: Vec<TaskAction>,
    /// Where it came from, unless it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub origin: Option<TaskOrigin>,
    /// What its callee last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub progress: Option<TaskProgress>,
}

/// A word of a closed list, as it stands in JSON: the variant's name in snake case.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize, ::utoipa::ToSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$note])* $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// `None` when `word` is not in the list.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a task stands.
    TaskState {
        /// 0: waits for `due_at`.
        Scheduled = "scheduled",
        /// 10: claimed, on its way to a worker.
        Queued = "queued",
        /// 30: an attempt is running.
        Executing = "executing",
        /// 40: held by hand.
        Paused = "paused",
        /// 45: the callee accepted and will complete by API.
        Awaiting = "awaiting",
        /// 50: see `result`.
        Ended = "ended",
    }
}

words! {
    /// How a task ended.
    TaskResult {
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
        /// Its `expire_after` passed before a first attempt.
        Expired = "expired",
        Skipped = "skipped",
    }
}

words! {
    /// What may be done to a task.
    TaskAction {
        Cancel = "cancel",
        /// By its callee, with the completion token.
        Complete = "complete",
        Pause = "pause",
        Postpone = "postpone",
        Replay = "replay",
        Resume = "resume",
        Run = "run",
    }
}

words! {
    /// Where a task came from.
    TaskOrigin {
        Submit = "submit",
        /// A schedule's occurrence.
        Schedule = "schedule",
        /// `POST …/configs/{config}/run`.
        Run = "run",
    }
}

words! {
    /// How an attempt was closed.
    OutcomeWord {
        Done = "done",
        Retry = "retry",
        Fail = "fail",
        /// Still open: the callee will complete it.
        Accepted = "accepted",
        Snooze = "snooze",
        /// Its process is gone.
        Lost = "lost",
        /// Closed by a cancel while it was awaited.
        Cancelled = "cancelled",
        /// Closed by a reset while it was awaited.
        Reset = "reset",
    }
}

/// How the latest attempt came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastOutcome {
    pub attempt: u32,
    pub outcome: OutcomeWord,
    /// A short machine word: `http_status`, `timeout`, `worker_lost`, …
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub http_status: Option<u16>,
    pub at: Time,
}

/// What the callee of an async task last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskProgress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100)]
    pub percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
    pub at: Time,
}

/// The number of a [`TaskState`]; only a schema.
#[derive(Debug, Clone, Copy)]
pub struct StatusNumber;

impl PartialSchema for StatusNumber {
    fn schema() -> RefOr<Schema> {
        let numbers = Status::ALL.map(Status::code);
        ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some(numbers)).into()
    }
}

impl ToSchema for StatusNumber {}

/// How a search may be ordered; only a schema.
#[derive(Debug, Clone, Copy)]
pub struct TaskOrder;

impl TaskOrder {
    /// By id from the newest (the default) or the oldest, the latest ended first, the earliest due first.
    pub const ALL: [&'static str; 4] = ["-id", "id", "-ended_at", "due_at"];
}

impl PartialSchema for TaskOrder {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Self::ALL)).into()
    }
}

impl ToSchema for TaskOrder {}

/// The name of a config in a search; only a schema.
#[derive(Debug, Clone, Copy)]
pub struct ConfigName;

impl PartialSchema for ConfigName {
    fn schema() -> RefOr<Schema> {
        let pattern = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$";
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
    }
}

impl ToSchema for ConfigName {}

/// A page of a search.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    pub items: Vec<Task>,
    /// Present while there may be more, even after a short or empty page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next_cursor: Option<String>,
}

/// All closed attempts of a task, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    pub items: Vec<Attempt>,
}

/// One closed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// From 1; never used again, not even after a replay.
    pub attempt: u32,
    pub started_at: Time,
    pub ended_at: Time,
    /// The process that ran it.
    #[schema(required)]
    pub node: Option<Id>,
    pub outcome: OutcomeWord,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub http_status: Option<u16>,
    /// At most the first 4 KiB of the answer, or the message of its completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub response_excerpt: Option<String>,
    /// Milliseconds from due to sent.
    pub lateness_ms: i64,
    /// Milliseconds from sent to closed.
    pub duration_ms: i64,
}
