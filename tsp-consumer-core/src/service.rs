//! Who begins and finishes for the pipeline.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tsp_core::config::TaskConfig;
use tsp_core::task::Task;
use tsp_core::work::{Begin, Begun, Finish, Finished};
use tsp_core::{ConfigId, TaskId, Timestamp};

/// The holder of the rows is away. Begins may or may not have happened; a finish is tried again.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub struct ServiceError(pub String);

/// The rows behind a pipeline: the store itself, or the API for workers outside the trust boundary.
#[async_trait]
pub trait TaskService: Send + Sync + std::fmt::Debug {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>>;

    /// Whether what was begun may still be sent: not after the end of this worker's lease, when somebody
    /// else may begin the same tasks.
    fn may_send(&self, _now: Timestamp) -> bool {
        true
    }

    /// The open rows of messages that came without one, in order.
    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Box<Task>>>, ServiceError>;

    /// Answers in the order of `batch`.
    async fn begin(&self, batch: Vec<Begin>, now: Timestamp) -> Result<Vec<Begun>, ServiceError>;

    /// Answers in the order of `batch`.
    async fn finish(&self, batch: Vec<Finish>, now: Timestamp) -> Result<Vec<Finished>, ServiceError>;

    /// Hands messages back that will not be begun: 10 → 0.
    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, ServiceError>;

    /// The attempts that are open under this worker's name.
    async fn executing(&self) -> Result<Vec<(TaskId, u32)>, ServiceError>;

    /// Gives back attempts that are open under this worker's name and that it does not run.
    async fn give_back(&self, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>, ServiceError>;
}
