//! Audit entries about tasks. The audit log is in the meta database and the task is not, so an entry is
//! written after the command: one that cannot be written goes to the process's own log.

use tsp_core::{TaskId, Timestamp};

use crate::backend::row_count::exactly;
use crate::error::Result;
use crate::tasks::Actor;

use super::bind::Values;
use super::context::StoreContext;
use super::statement_templates::batch_sizes;

const AUDIT_INSERT: &str =
    "-- deeds_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES {rows}";
const AUDIT_WIDTH: usize = 5;

impl StoreContext {
    /// Says who did something to tasks that is done.
    pub(super) async fn audit_entries(
        &self,
        by: &Actor,
        action: &str,
        tasks: &[TaskId],
        detail: &str,
        now: Timestamp,
    ) {
        let mut left = tasks;
        for step in batch_sizes(tasks.len()) {
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
        let sql = &self.meta.sql_rows(AUDIT_INSERT, AUDIT_WIDTH, tasks.len());
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
