//! What a handler is given, and what it answers.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::Timestamp;
use tsp_core::config::TaskConfig;
use tsp_core::outcome::Verdict;
use tsp_core::task::Task;

/// Does the work of one attempt.
#[async_trait]
pub trait TaskHandler: Send + Sync + std::fmt::Debug {
    /// Runs the attempt that `task` was begun for. At least once: the same task may come again with a
    /// higher `attempt`, and the answer of an attempt that was given up is not used.
    async fn execute(&self, task: &TaskContext) -> Verdict;
}

/// One begun attempt.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The row as begun; `task.attempt` is the fencing token.
    pub task: Box<Task>,
    pub config: Arc<TaskConfig>,
    /// For async configs: with this the callee completes.
    pub completion_token: Option<Box<str>>,
    /// When the attempt is sent.
    pub now: Timestamp,
}
