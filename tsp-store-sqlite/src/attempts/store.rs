//! What workers do, as the trait has it.

use async_trait::async_trait;
use tsp_core::task::Task;
use tsp_core::work;
use tsp_core::{NodeId, TaskId, Timestamp};
use tsp_store::attempts::{
    AttemptStore, BeginRequest, BeginResult, Each, Finish, FinishResult, WorkError, alike,
};
use tsp_store::error::Result;

use crate::SqliteStore;
use crate::attempts::batch;
use crate::attempts::begin;
use crate::attempts::finish;
use crate::connection::command::Command;

#[async_trait]
impl AttemptStore for SqliteStore {
    async fn load(&self, ids: &[TaskId]) -> work::Each<Option<Box<Task>>> {
        let (count, ids) = (ids.len(), ids.to_vec());
        each(self.read(Command::Load, move |conn| batch::load(conn, &ids)).await, count)
    }

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> work::Each<BeginResult> {
        let count = batch.len();
        each(self.write(Command::Begin, count, move |tx| begin::begin(tx, node, batch, now)).await, count)
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> work::Each<FinishResult> {
        let count = batch.len();
        each(self.write(Command::Finish, count, move |tx| finish::finish(tx, node, batch, now)).await, count)
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> {
        Ok(self.write(Command::Release, batch.len(), move |tx| batch::release(tx, batch, now)).await?)
    }

    async fn executing(&self, node: NodeId, _bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> {
        Ok(self.read(Command::Executing, move |conn| batch::executing(conn, node)).await?)
    }

    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError> {
        let released = self.write(Command::ReleaseOrphans, rows.len(), move |tx| {
            batch::release_orphans(tx, node, &rows, now)
        });
        Ok(released.await?)
    }
}

/// Each answer of a command, or the command's error for all `count` elements.
fn each<T>(answers: Result<Each<T>>, count: usize) -> work::Each<T> {
    alike(answers, count).into_iter().map(|answer| answer.flatten().map_err(WorkError::from)).collect()
}
