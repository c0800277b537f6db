//! What a worker does with its rows, under the lease of its process.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::Task;
use tsp_core::work::Each;
use tsp_core::{NodeId, ShardId, TaskId, Timestamp};
use tsp_store::attempts::{
    AttemptStore, BeginRequest, BeginResult, Finish, FinishResult, WorkError, for_worker,
};
use tsp_store::cluster::NodeLease;

use crate::attempts::batch;
use crate::attempts::begin;
use crate::attempts::finish;
use crate::context::StoreContext;

/// An [`AttemptStore`] that begins nothing once the node's lease has expired. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MySqlAttemptStore {
    context: Arc<StoreContext>,
    lease: Arc<NodeLease>,
    shards: Arc<[ShardId]>,
}

impl MySqlAttemptStore {
    pub(crate) fn new(context: Arc<StoreContext>, lease: Arc<NodeLease>, shards: Arc<[ShardId]>) -> Self {
        Self { context, lease, shards }
    }

    /// Whose rows it works on, wherever they are moved to.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }
}

#[async_trait]
impl AttemptStore for MySqlAttemptStore {
    fn bulkheads(&self) -> usize {
        self.shards.len()
    }

    fn bulkhead(&self, task: TaskId) -> usize {
        let shard = task.shard();
        self.shards.iter().position(|own| *own == shard).unwrap_or(0)
    }

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        for_worker(batch::load(&self.context, ids).await)
    }

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        for_worker(begin::begin(&self.context, &self.lease, node, batch, now).await)
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        for_worker(finish::finish(&self.context, node, batch, now).await)
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> {
        Ok(batch::release(&self.context, batch, now).await?)
    }

    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> {
        let Some(shard) = self.shards.get(bulkhead) else { return Ok(Vec::new()) };
        Ok(batch::executing(&self.context, node, *shard).await?)
    }

    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError> {
        Ok(batch::release_orphans(&self.context, node, rows, now).await?)
    }
}
