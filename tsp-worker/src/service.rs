//! The worker's own [`TaskService`]: straight on the store.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_consumer_core::{Each, ServiceError, TaskService};
use tsp_core::config::TaskConfig;
use tsp_core::task::Task;
use tsp_core::work::{Begin, BeginResult, Finish, FinishResult};
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::cluster::NodeLease;
use tsp_store::{AttemptStore, ConfigCache, StoreError};

/// Begins and finishes under one node, within its lease.
#[derive(Clone)]
pub struct DirectTaskService {
    store: Arc<dyn AttemptStore>,
    config_cache: Arc<ConfigCache>,
    node: NodeId,
    lease: Arc<NodeLease>,
}

impl DirectTaskService {
    pub fn new(
        store: Arc<dyn AttemptStore>,
        config_cache: Arc<ConfigCache>,
        node: NodeId,
        lease: Arc<NodeLease>,
    ) -> Self {
        Self { store, config_cache, node, lease }
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
        self.config_cache.config(id)
    }

    fn may_send(&self, now: Timestamp) -> bool {
        self.lease.holds(now)
    }

    fn bulkheads(&self) -> usize {
        self.store.bulkheads()
    }

    fn bulkhead(&self, task: TaskId) -> usize {
        self.store.bulkhead(task)
    }

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        each(self.store.load(ids).await)
    }

    async fn begin(&self, batch: Vec<Begin>, now: Timestamp) -> Each<BeginResult> {
        each(self.store.begin(self.node, batch, now).await)
    }

    async fn finish(&self, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        each(self.store.finish(self.node, batch, now).await)
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, ServiceError> {
        self.store.release(batch, now).await.map_err(service_error)
    }

    async fn executing(&self, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, ServiceError> {
        self.store.executing(self.node, bulkhead).await.map_err(service_error)
    }

    async fn release_orphans(
        &self,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, ServiceError> {
        self.store.release_orphans(self.node, rows, now).await.map_err(service_error)
    }
}

fn each<T>(answers: Vec<Result<T, StoreError>>) -> Each<T> {
    answers.into_iter().map(|answer| answer.map_err(service_error)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn service_error(error: StoreError) -> ServiceError {
    let text = error.to_string();
    match error {
        StoreError::Unavailable { .. } | StoreError::Unknown(_) => ServiceError::Away(text),
        StoreError::Corrupt { .. } | StoreError::Unusable(_) | StoreError::Internal(_) => {
            ServiceError::Refused(text)
        }
    }
}
