//! The writes of the hot path: prepared once, kept as long as the writer lives, one row each.
//!
//! What a row becomes is decided by `tsp_core::transition`; here it is only saved, fenced by the version
//! that the decision was made on.

use rusqlite::params;
use tsp_core::TaskId;
use tsp_core::task::{AttemptRecord, Phase, Task, TaskExtra};
use tsp_core::transition::Change;
use tsp_core::{Millis, NodeId, TaskKey, Timestamp};
use tsp_store::backend::columns::{
    attempt_columns, ended_columns, history_columns, open_columns, task_columns,
};
use tsp_store::backend::row::read_task;
use tsp_store::backend::sums::Sums;
use tsp_store::documents::extra_to_json;
use tsp_store::error::{Result, StoreError};
use tsp_store::rules::ended_at_first_try;

use crate::connection::session::{Session, Statement};
use crate::connection::statements::statements;

/// For the columns of an open task, and for those of an ended one; `$more` is what only one of them has.
macro_rules! values {
    ($more:literal) => {
        concat!(
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, \
             ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31",
            $more,
            ")"
        )
    };
}

statements! {
    TASK_INSERT = concat!(
        "-- task_insert\nINSERT INTO task (",
        task_columns!("key"),
        ", phase) ",
        values!(", ?32"),
        " ON CONFLICT DO NOTHING"
    );

    pub(crate) TASK_CLAIM = "-- task_claim
    UPDATE task SET status = 10, phase = 1, epoch = ?1, version = version + 1 WHERE id = ?2 AND version = ?3";

    /// The phase stays, so that no index is touched: SQLite writes each one that names a column which is set, whatever to.
    pub(crate) TASK_BEGIN = "-- task_begin
    UPDATE task SET status = 30, version = version + 1, attempt = ?1, node = ?2, started_at = ?3,
        begun_due_at = ?4, token = ?5
    WHERE id = ?6 AND version = ?7";

    pub(crate) TASK_UPDATE = "-- task_update
    UPDATE task SET status = ?1, version = ?2, due_at = ?3, execute_at = ?4, first_due_at = ?5, attempt = ?6,
        charged = ?7, losses = ?8, epoch = ?9, node = ?10, cancel_requested = ?11, started_at = ?12,
        begun_due_at = ?13, expire_after = ?14, token = ?15, last_attempt = ?16, last_kind = ?17,
        last_reason = ?18, last_status = ?19, last_at = ?20, extra = ?21, payload = ?22, phase = ?23
    WHERE id = ?24 AND version = ?25";

    pub(crate) TASK_DELETE = "-- task_delete
    DELETE FROM task WHERE id = ?1 AND version = ?2";

    HISTORY_INSERT = concat!("-- history_insert\nINSERT INTO history (", history_columns!("key"), ") ", values!(""));

    ATTEMPT_INSERT = concat!(
        "-- attempt_insert\nINSERT INTO attempt (",
        attempt_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    );

    pub(crate) TASK_OPEN = concat!("-- task_open\nSELECT ", open_columns!("key"), " FROM task WHERE id = ?1");
    pub(crate) TASK_ENDED = concat!("-- task_ended\nSELECT ", ended_columns!("key"), " FROM history WHERE id = ?1");
}

/// Statements that are prepared when they are first needed.
pub(crate) struct TaskRows<'c> {
    conn: Session<'c>,
    task_insert: Option<Statement<'c>>,
    task_claim: Option<Statement<'c>>,
    task_begin: Option<Statement<'c>>,
    task_update: Option<Statement<'c>>,
    task_delete: Option<Statement<'c>>,
    history_insert: Option<Statement<'c>>,
    attempt_insert: Option<Statement<'c>>,
}

fn prepared<'s, 'c>(
    slot: &'s mut Option<Statement<'c>>,
    conn: Session<'c>,
    sql: &'static str,
) -> Result<&'s mut Statement<'c>> {
    match slot {
        Some(statement) => Ok(statement),
        None => Ok(slot.insert(conn.prepare(sql)?)),
    }
}

impl<'c> TaskRows<'c> {
    pub(crate) fn new(conn: Session<'c>) -> Self {
        Self {
            conn,
            task_insert: None,
            task_claim: None,
            task_begin: None,
            task_update: None,
            task_delete: None,
            history_insert: None,
            attempt_insert: None,
        }
    }

    pub(crate) fn open_task(&self, id: TaskId) -> Result<Option<Task>> {
        open_task(self.conn, id)
    }

    /// Whether it was inserted: not when an open task has its id, or holds its key in its slot.
    pub(crate) fn insert_task(&mut self, task: &Task, sums: &mut Sums) -> Result<bool> {
        let last = task.last_outcome.as_ref();
        let statement = prepared(&mut self.task_insert, self.conn, TASK_INSERT)?;
        let inserted = statement.execute_one_or_none(params![
            task.id.get(),
            task.config.get(),
            task.status.code(),
            task.version,
            task.due_at.ms(),
            task.execute_at.ms(),
            task.age_from.ms(),
            task.created_at.ms(),
            task.attempt,
            task.failed_attempts,
            task.worker_losses,
            task.epoch,
            task.node.map(NodeId::get),
            task.cancel_requested,
            task.origin.code(),
            task.sharding_id,
            task.sharding_count,
            task.parent.map(TaskId::get),
            task.key.as_ref().map(TaskKey::as_str),
            task.key_slot,
            task.started_at.map(Timestamp::ms),
            task.begun_due_at.map(Timestamp::ms),
            task.expire_after.map(Millis::ms),
            task.token.as_ref().map(<[u8; 32]>::as_slice),
            last.map(|last| last.attempt),
            last.map(|last| last.kind.code()),
            last.map(|last| &*last.reason),
            last.map(|last| last.http_status),
            last.map(|last| last.at.ms()),
            extra(task.extra.as_deref())?,
            task.payload.as_deref(),
            task.status.phase().map(Phase::code),
        ])?;
        sums.accepted += i64::from(inserted);
        Ok(inserted)
    }

    /// Saves a change of an open row that was decided on `version`. `None`: it has another version now.
    pub(crate) fn save(
        &mut self,
        version: i64,
        change: Change,
        sums: &mut Sums,
    ) -> Result<Option<Box<Task>>> {
        let Change { mut task, closed, .. } = change;
        if task.is_open() {
            if !self.update(version, &task)? {
                return Ok(None);
            }
            if let Some(closed) = &closed {
                self.insert_attempt(closed)?;
            }
            return Ok(Some(Box::new(task)));
        }
        let delete = prepared(&mut self.task_delete, self.conn, TASK_DELETE)?;
        if !delete.execute_one_or_none([task.id.get(), version])? {
            return Ok(None);
        }
        let node = closed.as_ref().and_then(|closed| closed.node);
        if let Some(mut closed) = closed {
            if !ended_at_first_try(&task) {
                self.insert_attempt(&closed)?;
            } else if let Some(excerpt) = closed.excerpt.take() {
                // It has no attempt row of its own; see `attempts`.
                task.extra_mut().excerpt = Some(excerpt);
            }
        }
        self.insert_history(&task, node)?;
        sums.end(task.result);
        Ok(Some(Box::new(task)))
    }

    /// The change of a claim, without the columns that it leaves alone.
    pub(crate) fn save_claimed(&mut self, version: i64, task: &Task) -> Result<bool> {
        let statement = prepared(&mut self.task_claim, self.conn, TASK_CLAIM)?;
        statement.execute_one_or_none(params![task.epoch, task.id.get(), version])
    }

    /// The change of a begin, without the columns that it leaves alone. An `extra` may have changed too.
    pub(crate) fn save_begun(&mut self, version: i64, task: &Task) -> Result<bool> {
        if task.extra.is_some() {
            return self.update(version, task);
        }
        let statement = prepared(&mut self.task_begin, self.conn, TASK_BEGIN)?;
        statement.execute_one_or_none(params![
            task.attempt,
            task.node.map(NodeId::get),
            task.started_at.map(Timestamp::ms),
            task.begun_due_at.map(Timestamp::ms),
            task.token.as_ref().map(<[u8; 32]>::as_slice),
            task.id.get(),
            version,
        ])
    }

    fn update(&mut self, version: i64, task: &Task) -> Result<bool> {
        let last = task.last_outcome.as_ref();
        let statement = prepared(&mut self.task_update, self.conn, TASK_UPDATE)?;
        statement.execute_one_or_none(params![
            task.status.code(),
            task.version,
            task.due_at.ms(),
            task.execute_at.ms(),
            task.age_from.ms(),
            task.attempt,
            task.failed_attempts,
            task.worker_losses,
            task.epoch,
            task.node.map(NodeId::get),
            task.cancel_requested,
            task.started_at.map(Timestamp::ms),
            task.begun_due_at.map(Timestamp::ms),
            task.expire_after.map(Millis::ms),
            task.token.as_ref().map(<[u8; 32]>::as_slice),
            last.map(|last| last.attempt),
            last.map(|last| last.kind.code()),
            last.map(|last| &*last.reason),
            last.map(|last| last.http_status),
            last.map(|last| last.at.ms()),
            extra(task.extra.as_deref())?,
            task.payload.as_deref(),
            task.status.phase().map(Phase::code),
            task.id.get(),
            version,
        ])
    }

    fn insert_history(&mut self, task: &Task, node: Option<NodeId>) -> Result<()> {
        let (Some(result), Some(ended_at)) = (task.result, task.ended_at) else {
            return Err(StoreError::Internal(format!("task {} ended without a result", task.id)));
        };
        let last = task.last_outcome.as_ref();
        let statement = prepared(&mut self.history_insert, self.conn, HISTORY_INSERT)?;
        statement.execute_one(params![
            task.id.get(),
            task.config.get(),
            result.code(),
            ended_at.ms(),
            task.version,
            task.due_at.ms(),
            task.execute_at.ms(),
            task.age_from.ms(),
            task.created_at.ms(),
            task.attempt,
            task.failed_attempts,
            task.worker_losses,
            task.epoch,
            node.map(NodeId::get),
            task.origin.code(),
            task.sharding_id,
            task.sharding_count,
            task.parent.map(TaskId::get),
            task.key.as_ref().map(TaskKey::as_str),
            task.key_slot,
            task.started_at.map(Timestamp::ms),
            task.begun_due_at.map(Timestamp::ms),
            task.expire_after.map(Millis::ms),
            task.token.as_ref().map(<[u8; 32]>::as_slice),
            last.map(|last| last.attempt),
            last.map(|last| last.kind.code()),
            last.map(|last| &*last.reason),
            last.map(|last| last.http_status),
            last.map(|last| last.at.ms()),
            extra(task.extra.as_deref())?,
            task.payload.as_deref(),
        ])
    }

    pub(crate) fn insert_attempt(&mut self, record: &AttemptRecord) -> Result<()> {
        let statement = prepared(&mut self.attempt_insert, self.conn, ATTEMPT_INSERT)?;
        statement.execute_one(params![
            record.task.get(),
            record.attempt,
            record.started_at.ms(),
            record.ended_at.ms(),
            record.due_at.ms(),
            record.node.map(NodeId::get),
            record.kind.code(),
            &*record.reason,
            record.http_status,
            record.excerpt.as_deref(),
        ])
    }
}

pub(crate) fn open_task(conn: Session<'_>, id: TaskId) -> Result<Option<Task>> {
    conn.prepare(TASK_OPEN)?.first([id.get()], |row| read_task(row))
}

pub(crate) fn ended_task(conn: Session<'_>, id: TaskId) -> Result<Option<Task>> {
    conn.prepare(TASK_ENDED)?.first([id.get()], |row| read_task(row))
}

fn extra(extra: Option<&TaskExtra>) -> Result<Option<String>> {
    let Some(extra) = extra else { return Ok(None) };
    extra_to_json(extra).map_err(StoreError::Internal)
}
