//! The audit log. It is in the meta database and tasks are not, so an entry about them is written after the
//! command: one that cannot be written goes to the process's own log.

use async_trait::async_trait;
use tsp_core::{TaskId, Timestamp};
use tsp_store::backend::columns::audit_columns;
use tsp_store::backend::row::read_audit_entry;
use tsp_store::backend::row_count::{exactly, exactly_one, sql_limit};
use tsp_store::catalog::{AuditEntry, AuditLog};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::MySqlStore;
use crate::connection::bind::Values;
use crate::connection::db::Db;
use crate::connection::session::query;
use crate::connection::statement_templates::batch_size;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

const INSERT: &str =
    "-- audit_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)";

const INSERT_MANY: &str =
    "-- deeds_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES {rows}";

const AUDIT_WIDTH: usize = 5;

const LIST: &str =
    concat!("-- audit_list\nSELECT ", audit_columns!(), " FROM audit ORDER BY id DESC LIMIT ?");

/// Writes an audit entry, in a transaction of the meta database.
pub(crate) async fn log(
    tx: &mut Tx<'_>,
    meta: &Db,
    by: &Actor,
    action: &str,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let changed = query(&meta.sql(INSERT))
        .bind(now.ms())
        .bind(&by.0)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(tx.conn())
        .await?;
    exactly_one(changed, "audit_insert")
}

#[async_trait]
impl AuditLog for MySqlStore {
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        let (meta, limit) = (&self.context.meta, sql_limit(limit));
        let sql = &meta.sql(LIST);
        let rows = meta.read("audit_log", |tx| {
            Box::pin(async move { query(sql).bind(limit).fetch_all(tx.conn()).await })
        });
        rows.await?.iter().map(read_audit_entry).collect()
    }
}

impl StoreContext {
    /// Says who did something to tasks that is done.
    pub(crate) async fn audit_entries(
        &self,
        by: &Actor,
        action: &str,
        tasks: &[TaskId],
        detail: &str,
        now: Timestamp,
    ) {
        let mut left = tasks;
        while let Some(step) = batch_size(left.len(), AUDIT_WIDTH) {
            let (step, rest) = left.split_at(step);
            left = rest;
            if self.write(by, action, step, detail, now).await.is_ok() {
                continue;
            }
            if let Err(error) = self.write(by, action, step, detail, now).await {
                let (by, tasks) = (&by.0, step.len());
                let first = step.first().map(ToString::to_string);
                tracing::error!(%error, by, action, detail, tasks, first, "an audit entry was not written");
            }
        }
    }

    async fn write(
        &self,
        by: &Actor,
        action: &str,
        tasks: &[TaskId],
        detail: &str,
        now: Timestamp,
    ) -> Result<()> {
        let sql = &self.meta.sql_rows(INSERT_MANY, AUDIT_WIDTH, tasks.len());
        self.meta
            .read("audit_deeds", move |tx| {
                Box::pin(async move {
                    let mut values = Values::default();
                    for task in tasks {
                        values.put(now.ms()).put(&*by.0).put(action).put(task.to_string()).put(detail);
                    }
                    let inserted = values.ask(sql)?.execute(tx.conn()).await?;
                    exactly(tasks.len(), inserted, "deeds_insert")
                })
            })
            .await
    }
}
