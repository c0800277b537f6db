//! The auditor's counts.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tsp_core::task::Status;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::error::Result;
use tsp_store::fetching::{Audit, AuditorStore, COUNTED_MAX, OVERDUE_AFTER};

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::fetching::claim::earliest_due;
use crate::fetching::fire::cursors;
use crate::tasks::cancel::open_count;

/// Rows by status, each from the small index that holds just them.
pub(crate) const OPEN_BY_STATUS: [(Status, &str); 5] = [
    (Status::Scheduled, AUDIT_SCHEDULED),
    (Status::Queued, AUDIT_QUEUED),
    (Status::Executing, AUDIT_EXECUTING),
    (Status::Paused, AUDIT_PAUSED),
    (Status::Awaiting, AUDIT_AWAITING),
];

statements! {
    pub(crate) OVERDUE = "-- audit_overdue
    SELECT count(*) FROM task WHERE config_id = ?1 AND phase = 0 AND due_at < ?2"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=? AND due_at<?)";

    /// Whether there are more than so many.
    pub(crate) OVERDUE_MANY = "-- audit_overdue_many
    SELECT 1 FROM task WHERE config_id = ?1 AND phase = 0 AND due_at < ?2 LIMIT 1 OFFSET ?3"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=? AND due_at<?)";

    /// The next config with a paused row: a seek for each.
    pub(crate) PAUSED_NEXT = "-- audit_paused_next
    SELECT config_id FROM task WHERE phase = 2 AND config_id > ?1 ORDER BY config_id LIMIT 1"
        => "SEARCH task USING COVERING INDEX task_paused (config_id>?)";

    pub(crate) BUSY = "-- audit_busy
    SELECT config_id FROM task WHERE phase = 1"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    /// The others come at their deadline, which is the end of their wait.
    pub(crate) AWAITING = "-- audit_awaiting_first
    SELECT config_id FROM task WHERE phase = 3 ORDER BY due_at LIMIT 1000"
        => "SCAN task USING INDEX task_awaiting";

    CONFIG_THERE = "-- audit_config\nSELECT 1 FROM config WHERE id = ?";

    AUDIT_SCHEDULED = "-- audit_scheduled\nSELECT count(*) FROM task INDEXED BY task_claim WHERE phase = 0"
        => "SCAN task USING COVERING INDEX task_claim";

    AUDIT_QUEUED = "-- audit_queued
    SELECT count(*) FROM task INDEXED BY task_busy WHERE phase = 1 AND status = 10"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    AUDIT_EXECUTING = "-- audit_executing
    SELECT count(*) FROM task INDEXED BY task_busy WHERE phase = 1 AND status = 30"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    AUDIT_PAUSED = "-- audit_paused\nSELECT count(*) FROM task INDEXED BY task_paused WHERE phase = 2"
        => "SCAN task USING COVERING INDEX task_paused";

    AUDIT_AWAITING = "-- audit_awaiting\nSELECT count(*) FROM task INDEXED BY task_awaiting WHERE phase = 3"
        => "SCAN task USING COVERING INDEX task_awaiting";

    BALANCE_READ = "-- balance_read\nSELECT accepted, ended FROM balance WHERE id = 1";
}

#[async_trait]
impl AuditorStore for SqliteStore {
    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        self.read(Command::Audit, move |conn| audit(conn, now)).await
    }
}

/// Counts rows and reads the sums in one snapshot; the sums change in the transactions that change rows.
fn audit(conn: Session<'_>, now: Timestamp) -> Result<Audit> {
    let (accepted, ended) = conn.prepare(BALANCE_READ)?.one([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut open = Vec::with_capacity(OPEN_BY_STATUS.len());
    for (status, sql) in OPEN_BY_STATUS {
        let count: i64 = conn.prepare(sql)?.one([], |row| row.get(0))?;
        if count > 0 {
            open.push((status, count));
        }
    }
    let (overdue, orphans) = (overdue(conn, now)?, orphans(conn)?);
    Ok(Audit { accepted, ended, open, overdue, orphans, cursors: cursors(conn)? })
}

fn orphans(conn: Session<'_>) -> Result<Vec<(ConfigId, i64)>> {
    let mut configs: BTreeSet<i64> =
        earliest_due(conn)?.into_iter().map(|earliest| earliest.config.get()).collect();
    for sql in [BUSY, AWAITING] {
        configs.extend(conn.prepare(sql)?.all([], |row| row.get::<i64>(0))?);
    }
    let mut paused = conn.prepare(PAUSED_NEXT)?;
    let mut after = i64::MIN;
    while let Some(config) = paused.first([after], |row| row.get(0))? {
        configs.insert(config);
        after = config;
    }
    let mut there = conn.prepare(CONFIG_THERE)?;
    let mut orphans = Vec::new();
    for config in configs {
        if !there.exists([config])? {
            let config = ConfigId::new(config);
            let count = i64::try_from(open_count(conn, config)?).unwrap_or(COUNTED_MAX);
            orphans.push((config, count.min(COUNTED_MAX)));
        }
    }
    Ok(orphans)
}

fn overdue(conn: Session<'_>, now: Timestamp) -> Result<Vec<(ConfigId, i64)>> {
    let cutoff = now.minus(OVERDUE_AFTER);
    let mut late = Vec::new();
    for earliest in earliest_due(conn)?.into_iter().filter(|earliest| earliest.due_at < cutoff) {
        let config = earliest.config.get();
        let many = conn.prepare(OVERDUE_MANY)?.exists([config, cutoff.ms(), COUNTED_MAX])?;
        let count = if many {
            COUNTED_MAX
        } else {
            conn.prepare(OVERDUE)?.one([config, cutoff.ms()], |row| row.get(0))?
        };
        late.push((earliest.config, count));
    }
    Ok(late)
}
