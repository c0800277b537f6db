//! What a handler is given, and what it answers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::TaskConfig;
use tsp_core::outcome::Verdict;
use tsp_core::task::Task;
use tsp_core::work::SendLease;
use tsp_core::{Clock, Timestamp};

/// Does the work of one attempt.
#[async_trait]
pub trait TaskHandler: Send + Sync + std::fmt::Debug {
    /// Runs the attempt that `task` was begun for. At least once: the same task may come once more with a
    /// higher `attempt`, and the answer of an attempt that was given up is not used.
    async fn execute(&self, task: &TaskContext) -> Verdict;
}

/// One begun attempt.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The row as begun; `task.attempt` is the fencing token.
    pub task: Box<Task>,
    pub config: Arc<TaskConfig>,
    /// For async configs: with this the receiver completes.
    pub completion_token: Option<Box<str>>,
    /// When the attempt is sent.
    pub now: Timestamp,
    pub fence: Fence,
}

/// The end of a worker's lease: after it somebody else may have begun the same task.
#[derive(Clone)]
pub struct Fence(Option<(Arc<dyn SendLease>, Arc<dyn Clock>)>);

impl Fence {
    pub fn new(lease: Arc<dyn SendLease>, clock: Arc<dyn Clock>) -> Self {
        Self(Some((lease, clock)))
    }

    /// Of an attempt that nobody else can have begun.
    pub const fn open() -> Self {
        Self(None)
    }

    /// Whether the attempt may be sent, for the first time or once more. To be asked each time just before.
    pub fn may_send(&self) -> bool {
        self.0.as_ref().is_none_or(|(lease, clock)| lease.may_send(clock.now()))
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence").field("may_send", &self.may_send()).finish()
    }
}
