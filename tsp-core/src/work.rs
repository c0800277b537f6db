//! The words between a worker and whoever holds the rows: begin and finish, in batches.

use crate::ids::TaskId;
use crate::outcome::Verdict;
use crate::task::{Task, TokenHash};
use crate::time::Timestamp;

/// A message to begin.
#[derive(Debug, Clone)]
pub struct Begin {
    pub id: TaskId,
    pub version: i64,
    /// The row as claimed, when it came inline with the message; else the store loads it.
    pub row: Option<Box<Task>>,
    /// For async configs.
    pub token: Option<TokenHash>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BeginResult {
    /// Call back now. The row as begun.
    Run(Box<Task>),
    /// Due within a second: ask again at this time.
    Wait(Timestamp),
    /// Not to be run: the message is stale, the task expired, or its row returned to scheduled because the
    /// config is held or it is far from due. The row if it changed. Acknowledge.
    Drop(Option<Box<Task>>),
}

#[derive(Debug, Clone)]
pub struct Finish {
    pub id: TaskId,
    pub attempt: u32,
    pub verdict: Verdict,
    /// When the outcome came, which may be a little before it is saved; `None`: now.
    pub ended_at: Option<Timestamp>,
    /// A random number in `0.0..1.0`, for the jitter of a retry.
    pub jitter_fraction: f64,
    /// The row as begun: used when its version is still the stored one, which saves reading it again.
    pub row: Option<Box<Task>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FinishResult {
    /// The outcome counts; the row as it became.
    Saved(Box<Task>),
    /// Somebody else closed the attempt; acknowledge all the same.
    TooLate,
}
