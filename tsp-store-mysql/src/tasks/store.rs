//! What callers do with tasks, as the trait has it.

use async_trait::async_trait;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};
use tsp_store::error::Result;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};

use crate::MySqlStore;
use crate::search::page;
use crate::tasks::cancel;
use crate::tasks::change;

#[async_trait]
impl TaskStore for MySqlStore {
    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        self.submits.submit(batch, now).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        change::task(&self.context, id).await
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        change::task_by_key(&self.context, config, key).await
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        change::change(&self.context, &subject, &command, by, now).await
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CancelCount> {
        cancel::cancel_open(&self.context, config, limit, by, now).await
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        let configs = self.context.config_cache.in_scope(&query.scope);
        page::search(&self.context, &query, &configs).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        change::attempts(&self.context, id).await
    }
}
