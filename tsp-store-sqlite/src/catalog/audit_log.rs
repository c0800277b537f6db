//! The audit log.

use async_trait::async_trait;
use rusqlite::params;
use tsp_core::Timestamp;
use tsp_store::backend::columns::audit_columns;
use tsp_store::backend::row::read_audit_entry;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::catalog::{AuditEntry, AuditLog};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::session::Session;
use crate::connection::statements::statements;

statements! {
    INSERT = "-- audit_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)";

    LIST = concat!("-- audit_list\nSELECT ", audit_columns!(), " FROM audit ORDER BY id DESC LIMIT ?")
        => "SCAN audit";
}

/// Writes an audit entry.
pub(crate) fn log(
    conn: Session<'_>,
    by: &Actor,
    action: &str,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    conn.prepare(INSERT)?.execute_one(params![now.ms(), by.0, action, subject, detail])
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read(Command::AuditLog, move |conn| {
            conn.prepare(LIST)?.all([sql_limit(limit)], |row| read_audit_entry(row))
        })
        .await
    }
}
