//! The worker's own [`TaskService`]: straight on the store.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_consumer_core::{ServiceError, TaskService};
use tsp_core::config::TaskConfig;
use tsp_core::task::Task;
use tsp_core::work::{Begin, Begun, Finish, Finished};
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::cluster::NodeLease;
use tsp_store::{ConfigBook, RunStore, StoreError};

/// Begins and finishes under one node, within its lease.
#[derive(Clone)]
pub struct DirectTaskService {
    store: Arc<dyn RunStore>,
    book: Arc<ConfigBook>,
    node: NodeId,
    lease: Arc<NodeLease>,
}

impl DirectTaskService {
    pub fn new(store: Arc<dyn RunStore>, book: Arc<ConfigBook>, node: NodeId, lease: Arc<NodeLease>) -> Self {
        Self { store, book, node, lease }
    }
}

impl std::fmt::Debug for DirectTaskService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectTaskService").field("node", &self.node).finish_non_exhaustive()
    }
}

#[async_trait]
impl TaskService for DirectTaskService {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.book.config(id)
    }

    fn may_send(&self, now: Timestamp) -> bool {
        self.lease.holds(now)
    }

    async fn load(&self, ids: &[TaskId]) -> Result<Vec<Option<Box<Task>>>, ServiceError> {
        self.store.load(ids).await.map_err(away)
    }

    async fn begin(&self, batch: Vec<Begin>, now: Timestamp) -> Result<Vec<Begun>, ServiceError> {
        self.store.begin(self.node, batch, now).await.map_err(away)
    }

    async fn finish(&self, batch: Vec<Finish>, now: Timestamp) -> Result<Vec<Finished>, ServiceError> {
        self.store.finish(self.node, batch, now).await.map_err(away)
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, ServiceError> {
        self.store.release(batch, now).await.map_err(away)
    }

    async fn executing(&self) -> Result<Vec<(TaskId, u32)>, ServiceError> {
        self.store.executing(self.node).await.map_err(away)
    }

    async fn give_back(&self, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>, ServiceError> {
        self.store.give_back(self.node, rows, now).await.map_err(away)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn away(error: StoreError) -> ServiceError {
    ServiceError(error.to_string())
}
