//! What a worker does with its rows, under the lease of its process.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::Task;
use tsp_core::{NodeId, ShardId, TaskId, Timestamp};

use crate::cluster::NodeLease;
use crate::error::Result;
use crate::run::{Begin, Begun, Each, Finish, Finished, RunStore};

use super::core::Core;
use super::{begin, finish, run};

/// A [`RunStore`] that begins nothing once the node's lease is over. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MySqlRunner {
    core: Arc<Core>,
    lease: Arc<NodeLease>,
    shards: Arc<[ShardId]>,
}

impl MySqlRunner {
    pub(super) fn new(core: Arc<Core>, lease: Arc<NodeLease>, shards: Arc<[ShardId]>) -> Self {
        Self { core, lease, shards }
    }

    /// Whose rows it works on, wherever they are moved to.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }
}

#[async_trait]
impl RunStore for MySqlRunner {
    fn bulkheads(&self) -> usize {
        self.shards.len()
    }

    fn bulkhead(&self, task: TaskId) -> usize {
        let shard = task.shard();
        self.shards.iter().position(|own| *own == shard).unwrap_or(0)
    }

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        run::load(&self.core, ids).await
    }

    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Each<Begun> {
        begin::begin(&self.core, &self.lease, node, batch, now).await
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<Finished> {
        finish::finish(&self.core, node, batch, now).await
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        run::release(&self.core, batch, now).await
    }

    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>> {
        let Some(shard) = self.shards.get(bulkhead) else { return Ok(Vec::new()) };
        run::executing(&self.core, node, *shard).await
    }

    async fn give_back(&self, node: NodeId, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>> {
        run::give_back(&self.core, node, rows, now).await
    }
}
