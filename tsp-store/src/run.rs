//! What workers do: begin, finish, give back.

use async_trait::async_trait;
use tsp_core::outcome::Verdict;
use tsp_core::task::{Task, TokenHash};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::error::Result;

#[async_trait]
pub trait RunStore: Send + Sync {
    /// 10 → 30 for each message that is still good, in one transaction. Answers in the order of `batch`.
    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Result<Vec<Begun>>;

    /// Closes the attempts, fenced by `(status 30, attempt, node)`, in one transaction.
    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Result<Vec<Finished>>;

    /// 10 → 0 for messages that will not be begun; returns how many rows were released.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>>;

    /// The rows at 30 under this node: what a worker compares with what it really runs.
    async fn executing(&self, node: NodeId) -> Result<Vec<(TaskId, u32)>>;
}

/// A message to begin.
#[derive(Debug, Clone)]
pub struct Begin {
    pub id: TaskId,
    pub version: i64,
    /// The row as claimed, when it travelled with the message; else the store loads it.
    pub row: Option<Box<Task>>,
    /// For async configs.
    pub token: Option<TokenHash>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// Call back now. The row as begun.
    Run(Box<Task>),
    /// Due within a second: ask again at this time.
    Wait(Timestamp),
    /// Not to be run: the message is stale, the task expired, or its row was given back because the
    /// config is held or it is far from due. The row if it changed. Acknowledge.
    Drop(Option<Box<Task>>),
}

#[derive(Debug, Clone)]
pub struct Finish {
    pub id: TaskId,
    pub attempt: u32,
    pub verdict: Verdict,
    /// A random number in `0.0..1.0`, for the jitter of a retry.
    pub unit: f64,
    /// The row as begun: used when its version is still the stored one, which saves reading it again.
    pub row: Option<Box<Task>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Finished {
    /// The outcome counts; the row as it became.
    Saved(Box<Task>),
    /// Somebody else closed the attempt; acknowledge all the same.
    TooLate,
}
