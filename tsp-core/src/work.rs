//! The words between a worker and whoever holds the rows: begin and finish, in batches.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::config::TaskConfig;
use crate::ids::{ConfigId, NodeId, TaskId};
use crate::outcome::Verdict;
use crate::task::{Task, TokenHash};
use crate::time::Timestamp;

/// Why a holder of rows did not do it, or did not say that it did.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkError {
    /// It is away or busy, and nothing was done: the same again will do.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The answer of a commit was lost: it may or may not have happened. The same again tells.
    #[error("the outcome of a commit is not known: {0}")]
    Unknown(String),
    /// A row that breaks the format.
    #[error("corrupt row: {table}.{column} of id {id}: {why}")]
    Corrupt { table: &'static str, column: &'static str, id: i64, why: String },
    /// It is there and cannot, perhaps for one row only.
    #[error("{0}")]
    Refused(String),
}

impl WorkError {
    /// Whether the same call will do later, whatever is in it.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown(_))
    }
}

/// What became of each element of a batch, in its order. One that failed stops no other.
pub type Each<T, E = WorkError> = Vec<Result<T, E>>;

/// The rows behind a worker: the store itself, or something that speaks to it.
#[async_trait]
pub trait AttemptStore: Send + Sync {
    /// How many bulkheads the rows have: parts that may stand still without the others. A call that is about
    /// one of them waits for no other.
    fn bulkheads(&self) -> usize {
        1
    }

    /// The bulkhead of a task, below [`AttemptStore::bulkheads`].
    fn bulkhead(&self, _task: TaskId) -> usize {
        0
    }

    /// The open rows of messages that came without one; `None` for one that is not open.
    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>>;

    /// Queued to executing, for each message that is still good, in one transaction for each bulkhead.
    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult>;

    /// Closes the attempts, fenced by `(executing, attempt, node)`, in one transaction for each bulkhead.
    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult>;

    /// Queued to scheduled, for messages that will not be begun; the rows that changed.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError>;

    /// The executing rows of a bulkhead under this node: what a worker compares with what it really runs.
    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError>;

    /// `worker_lost` for attempts that the worker finds under its own id and does not run. The rows that
    /// changed.
    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError>;
}

/// The configs that a worker knows.
pub trait Configs: Send + Sync {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>>;
}

/// The lease under which a worker sends.
pub trait SendLease: Send + Sync {
    /// Whether what was begun may still be sent: not after the end of the lease, when somebody else may
    /// begin the same tasks.
    fn may_send(&self, now: Timestamp) -> bool;
}

/// A message to begin.
#[derive(Debug, Clone)]
pub struct BeginRequest {
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
