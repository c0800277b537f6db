//! What workers do: begin, finish, release.

use async_trait::async_trait;
use tsp_core::task::Task;
pub use tsp_core::work::{Begin, BeginResult, Finish, FinishResult};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::error::Result;

/// What became of each element of a batch, in its order. One that failed stops no other.
pub type Each<T> = Vec<Result<T>>;

/// All of them.
///
/// # Errors
/// The first one's.
pub fn all<T>(each: Each<T>) -> Result<Vec<T>> {
    each.into_iter().collect()
}

/// For a call that answers for all `count` elements at once.
pub(crate) fn alike<T>(answers: Result<Vec<T>>, count: usize) -> Each<T> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

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
    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Each<BeginResult>;

    /// Closes the attempts, fenced by `(executing, attempt, node)`, in one transaction for each bulkhead.
    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult>;

    /// Queued to scheduled, for messages that will not be begun; the rows that changed.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>>;

    /// The executing rows of a bulkhead under this node: what a worker compares with what it really runs.
    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>>;

    /// `worker_lost` for attempts that the worker finds under its own id and does not run. The rows that
    /// changed.
    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>>;
}
