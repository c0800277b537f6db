//! What may be asked of one task, and the answers (API.md section 3).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Length;
use crate::task::{Task, words};
use crate::time::Time;

/// The most characters of a message.
pub const MESSAGE_CHARS_MAX: usize = 1000;

/// A body without anything in it, for calls that need none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoFields {}

/// A new time: exactly one of the two. Also an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostponeBody {
    /// RFC 3339 with any offset, at most ten years ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Time>, example = "2026-11-21T18:30:00+08:00")]
    pub execute_at: Option<String>,
    /// From now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Length>, example = "30m")]
    pub delay: Option<String>,
}

words! {
    /// What a cancel did. Never a guess.
    CancelOutcome {
        /// No further begin; earlier attempts may have run.
        Cancelled = "cancelled",
        /// It is executing now; this attempt is its last.
        TooLate = "too_late",
        AlreadyEnded = "already_ended",
    }
}

/// The answer to a cancel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CancelAnswer {
    pub outcome: CancelOutcome,
    pub task: Task,
}

words! {
    /// How a callee completes what it accepted.
    CompletionResult {
        Done = "done",
        Retry = "retry",
        Fail = "fail",
    }
}

/// Ends what was answered with 202.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    /// The callback's `TSP-Completion-Token`.
    #[schema(min_length = 1, max_length = 200)]
    pub token: String,
    pub result: CompletionResult,
    /// With `retry`: a duration; the retry policy's own delay when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "30s")]
    pub after: Option<Length>,
    /// Kept with the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub message: Option<String>,
}

/// How far the callee of an awaiting task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressBody {
    /// The callback's `TSP-Completion-Token`.
    #[schema(min_length = 1, max_length = 200)]
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub percent: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub message: Option<String>,
    /// The deadline becomes now plus this, at most the config's own, never earlier than it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10m")]
    pub extend: Option<Length>,
}
