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

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::search::page;
use crate::tasks::cancel;
use crate::tasks::change;
use crate::tasks::submit;

#[async_trait]
impl TaskStore for SqliteStore {
    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        self.write(Command::Submit, batch.len(), move |tx| submit::submit(tx, batch, now)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read(Command::Task, move |conn| change::task(conn, id)).await
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        let key = key.clone();
        self.read(Command::TaskByKey, move |conn| change::task_by_key(conn, config, &key)).await
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        let by = by.clone();
        self.write(Command::Change, 1, move |tx| change::change(tx, &subject, &command, &by, now)).await
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CancelCount> {
        let by = by.clone();
        self.write(Command::CancelOpen, limit, move |tx| cancel::cancel_open(tx, config, limit, &by, now))
            .await
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        let ids = self.shared.config_cache.in_scope(&query.scope);
        self.read(Command::Search, move |conn| page::search(conn, &query, &ids)).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        self.read(Command::Attempts, move |conn| change::attempts(conn, id)).await
    }
}
