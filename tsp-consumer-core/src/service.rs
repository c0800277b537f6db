//! Who begins and finishes for the pipeline.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tsp_core::config::TaskConfig;
use tsp_core::task::Task;
use tsp_core::work::{Begin, BeginResult, Finish, FinishResult};
use tsp_core::{ConfigId, TaskId, Timestamp};

/// Why the holder of the rows did not do it, or did not say that it did. A begin may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// It is unavailable or busy: the same again will do.
    #[error("{0}")]
    Away(String),
    /// It is there and cannot, perhaps for one row only.
    #[error("{0}")]
    Refused(String),
}

/// What became of each element of a batch, in its order. One that failed stops no other.
pub type Each<T> = Vec<Result<T, ServiceError>>;

/// The rows behind a pipeline: the store itself, or the API for workers outside the trust boundary.
#[async_trait]
pub trait TaskService: Send + Sync + std::fmt::Debug {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>>;

    /// Whether what was begun may still be sent: not after the end of this worker's lease, when somebody
    /// else may begin the same tasks.
    fn may_send(&self, _now: Timestamp) -> bool {
        true
    }

    /// How many bulkheads the rows have: parts that may stand still without the others. A call that is about
    /// one of them waits for no other.
    fn bulkheads(&self) -> usize {
        1
    }

    /// The bulkhead of a task, below [`TaskService::bulkheads`].
    fn bulkhead(&self, _task: TaskId) -> usize {
        0
    }

    /// The open rows of messages that came without one.
    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>>;

    async fn begin(&self, batch: Vec<Begin>, now: Timestamp) -> Each<BeginResult>;

    async fn finish(&self, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult>;

    /// Queued to scheduled, for messages that will not be begun.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, ServiceError>;

    /// The attempts that are open under this worker's id in one bulkhead.
    async fn executing(&self, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, ServiceError>;

    /// Gives back attempts that are open under this worker's name and that it does not run.
    async fn release_orphans(
        &self,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, ServiceError>;
}
