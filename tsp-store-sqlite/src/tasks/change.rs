//! What callers and operators do with tasks.

use rusqlite::params;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::Change;
use tsp_core::transition::submit::reopen;
use tsp_core::{ConfigId, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::backend::columns::{attempt_columns, ended_columns};
use tsp_store::backend::row::{read_attempt, read_task};
use tsp_store::error::{Result, StoreError};
use tsp_store::rules::only_attempt;
use tsp_store::tasks::{Actor, CommandResult, Subject, TaskCommand};

use crate::catalog::audit_log::log;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::tasks::rows::{ended_task, open_task};
use crate::tasks::submit::canonical;

statements! {
    pub(crate) LATEST_OF_KEY = concat!(
        "-- task_latest_of_key\nSELECT ",
        ended_columns!("key"),
        " FROM history WHERE config_id = ?1 AND key = ?2 ORDER BY ended_at DESC, id DESC LIMIT 1"
    )
        => "SEARCH history USING INDEX history_key (config_id=? AND key=?)";

    ATTEMPTS = concat!("-- attempts\nSELECT ", attempt_columns!(), " FROM attempt WHERE task_id = ?1 ORDER BY attempt")
        => "SEARCH attempt USING PRIMARY KEY (task_id=?)";

    LAST_NODE = "-- last_node\nSELECT last_node FROM history WHERE id = ?";
    HISTORY_REOPEN = "-- history_reopen\nDELETE FROM history WHERE id = ? AND version = ?";
}

pub(crate) fn task(conn: Session<'_>, id: TaskId) -> Result<Option<Task>> {
    match open_task(conn, id)? {
        Some(task) => Ok(Some(task)),
        None => ended_task(conn, id),
    }
}

pub(crate) fn task_by_key(conn: Session<'_>, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
    if let Some(task) = canonical(conn, config, key)? {
        return Ok(Some(task));
    }
    conn.prepare(LATEST_OF_KEY)?.first(params![config.get(), key.as_str()], |row| read_task(row))
}

pub(crate) fn attempts(conn: Session<'_>, id: TaskId) -> Result<Vec<AttemptRecord>> {
    let mut records = conn.prepare(ATTEMPTS)?.all([id.get()], |row| read_attempt(row))?;
    if let Some(task) = ended_task(conn, id)? {
        records.extend(only_attempt(&task, last_node(conn, id)?));
    }
    Ok(records)
}

/// Who ran the attempt that ended a task.
fn last_node(conn: Session<'_>, id: TaskId) -> Result<Option<NodeId>> {
    let node = conn.prepare(LAST_NODE)?.first([id.get()], |row| row.get::<Option<i64>>(0))?;
    Ok(node.flatten().map(NodeId::new))
}

pub(crate) fn change(
    tx: &mut Tx<'_>,
    subject: &Subject,
    command: &TaskCommand,
    by: &Actor,
    now: Timestamp,
) -> Result<CommandResult> {
    let row = match subject {
        Subject::Id(id) => task(tx.conn, *id)?,
        Subject::Key(config, key) => task_by_key(tx.conn, *config, key)?,
    };
    let Some(row) = row else { return Ok(CommandResult::NotFound) };
    let change = match command.decide(&row, tx.config(row.config).as_deref(), now) {
        Ok(change) => change,
        Err(why) => return Ok(CommandResult::Refused { task: Box::new(row), why }),
    };
    let outcome_detail = change.outcome_detail;
    let saved = if row.is_open() {
        tx.rows.save(row.version, change, &mut tx.sums)?
    } else {
        match replay(tx, &row, change)? {
            Ok(task) => Some(task),
            Err(refused) => return Ok(refused),
        }
    };
    // Row and decision are of one transaction of the only writer.
    let Some(task) = saved else {
        return Err(StoreError::Internal(format!("task {} changed within a transaction", row.id)));
    };
    if let Some((action, detail)) = command.audited() {
        log(tx.conn, by, action, &task.id.to_string(), &detail, now)?;
    }
    Ok(CommandResult::Done { task, outcome_detail })
}

/// Moves an ended row back to the open ones, unless an open task holds its key.
fn replay(tx: &mut Tx<'_>, ended: &Task, change: Change) -> Result<Result<Box<Task>, CommandResult>> {
    let mut task = change.task;
    let holder = match &task.key {
        Some(key) => canonical(tx.conn, task.config, key)?.map(|holder| holder.id),
        None => None,
    };
    match reopen(&task, tx.config(task.config).as_deref(), tx.shared.shards, holder) {
        Ok(key_slot) => task.key_slot = key_slot,
        Err(refusal) => return Ok(Err(refusal.into())),
    }
    if let Some(record) = only_attempt(ended, last_node(tx.conn, ended.id)?) {
        // It is not the only one any more, so it gets its own row like the others.
        tx.rows.insert_attempt(&record)?;
        if let Some(extra) = &mut task.extra {
            extra.excerpt = None;
        }
    }
    tx.conn.prepare(HISTORY_REOPEN)?.execute_one([ended.id.get(), ended.version])?;
    tx.sums.dropped += 1;
    if tx.rows.insert_task(&task, &mut tx.sums)? {
        return Ok(Ok(Box::new(task)));
    }
    Err(StoreError::Internal(format!("the key of task {} is taken", task.id)))
}
