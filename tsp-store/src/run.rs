//! What workers do: begin, finish, give back.

use async_trait::async_trait;
use tsp_core::task::Task;
pub use tsp_core::work::{Begin, Begun, Finish, Finished};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::error::Result;

#[async_trait]
pub trait RunStore: Send + Sync {
    /// The open rows of messages that came without one, in order; `None` for one that is not open.
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Box<Task>>>>;

    /// 10 → 30 for each message that is still good, in one transaction. Answers in the order of `batch`.
    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Result<Vec<Begun>>;

    /// Closes the attempts, fenced by `(status 30, attempt, node)`, in one transaction.
    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Result<Vec<Finished>>;

    /// 10 → 0 for messages that will not be begun; the rows that changed.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>>;

    /// The rows at 30 under this node: what a worker compares with what it really runs.
    async fn executing(&self, node: NodeId) -> Result<Vec<(TaskId, u32)>>;

    /// `worker_lost` for attempts that the worker finds under its own id and does not run. The rows that
    /// changed.
    async fn give_back(&self, node: NodeId, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>>;
}
