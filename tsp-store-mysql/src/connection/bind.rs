//! The values of rows, in the order of the columns that the writes name.

use ring::digest::{SHA256, digest};
use tsp_core::task::{AttemptRecord, Status, Task, TaskExtra};
use tsp_core::{Millis, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::documents::extra_to_json;
use tsp_store::error::{Result, StoreError};

use crate::connection::session::{Statement, query_with};
use crate::connection::statement_templates::StatementText;
use crate::connection::value::Value;

/// The columns that [`Values::task`] fills.
macro_rules! task_columns {
    () => {
        concat!(::tsp_store::backend::columns::task_columns!("task_key"), ", key_hash")
    };
}
pub(crate) const TASK_WIDTH: usize = 32;

/// The columns that [`Values::new_task`] fills; the others have the defaults of [`is_new`].
macro_rules! new_columns {
    () => {
        "id, config_id, due_at, execute_at, first_due_at, created_at, origin, task_key, key_slot, \
         expire_after, extra, payload, key_hash"
    };
}
pub(crate) const NEW_WIDTH: usize = 13;

/// The columns that [`Values::history`] fills.
macro_rules! history_columns {
    () => {
        concat!(::tsp_store::backend::columns::history_columns!("task_key"), ", key_hash")
    };
}
pub(crate) const HISTORY_WIDTH: usize = 32;

/// As many columns [`Values::attempt`] fills.
pub(crate) const ATTEMPT_WIDTH: usize = 10;

pub(crate) use {history_columns, new_columns, task_columns};

/// The first half of the SHA-256 of a key: what the unique index holds instead of the text.
pub(crate) fn key_hash(key: &TaskKey) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, key.as_str().as_bytes()).as_ref()[..16]);
    half
}

/// The values of one statement.
#[derive(Default)]
pub(crate) struct Values<'v> {
    values: Vec<Value<'v>>,
    failed: Option<String>,
}

impl<'v> Values<'v> {
    pub(crate) fn of_ids(ids: impl IntoIterator<Item = i64>) -> Self {
        Self { values: ids.into_iter().map(Value::Int).collect(), failed: None }
    }

    pub(crate) fn put(&mut self, value: impl Into<Value<'v>>) -> &mut Self {
        self.values.push(value.into());
        self
    }

    /// # Errors
    /// [`StoreError::Internal`] for a value that could not be written.
    pub(crate) fn ask(self, sql: &StatementText) -> Result<Statement<'v>> {
        match self.failed {
            None => Ok(query_with(sql, self.values)),
            Some(why) => Err(StoreError::Internal(format!("a value cannot be sent: {why}"))),
        }
    }

    pub(crate) fn task(&mut self, task: &'v Task) {
        self.put(task.id.get()).put(task.config.get()).put(task.status.code()).put(task.version);
        self.times(task).counters(task);
        self.put(task.node.map(NodeId::get)).put(i8::from(task.cancel_requested));
        self.made(task).begun(task).put(task.expire_after.map(Millis::ms)).rest(task).key_hash(task);
    }

    /// A task of which [`is_new`] holds.
    pub(crate) fn new_task(&mut self, task: &'v Task) {
        self.put(task.id.get()).put(task.config.get()).times(task).put(task.origin.code());
        self.key(task).put(task.expire_after.map(Millis::ms)).long(task).key_hash(task);
    }

    /// `node`: who ran the attempt that ended it.
    pub(crate) fn history(&mut self, task: &'v Task, node: Option<NodeId>) -> Result<()> {
        let (Some(result), Some(ended_at)) = (task.result, task.ended_at) else {
            return Err(StoreError::Internal(format!("task {} ended without a result", task.id)));
        };
        self.put(task.id.get()).put(task.config.get()).put(result.code()).put(ended_at.ms());
        self.put(task.version).times(task).counters(task).put(node.map(NodeId::get));
        self.made(task).begun(task).put(task.expire_after.map(Millis::ms)).rest(task).key_hash(task);
        Ok(())
    }

    pub(crate) fn attempt(&mut self, record: &'v AttemptRecord) {
        self.put(record.task.get())
            .put(record.attempt)
            .put(record.started_at.ms())
            .put(record.ended_at.ms())
            .put(record.due_at.ms())
            .put(record.node.map(NodeId::get))
            .put(record.kind.code())
            .put(&*record.reason)
            .put(record.http_status)
            .put(record.excerpt.as_deref());
    }

    /// What may change while a task is open, in the order of `TASK_UPDATE`.
    pub(crate) fn update(&mut self, task: &'v Task) {
        self.put(task.status.code()).put(task.version);
        self.put(task.due_at.ms()).put(task.execute_at.ms()).put(task.age_from.ms());
        self.counters(task).put(task.node.map(NodeId::get)).put(i8::from(task.cancel_requested));
        self.begun(task).put(task.expire_after.map(Millis::ms)).rest(task);
    }

    fn times(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.due_at.ms()).put(task.execute_at.ms()).put(task.age_from.ms()).put(task.created_at.ms())
    }

    fn counters(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.attempt).put(task.failed_attempts).put(task.worker_losses).put(task.epoch)
    }

    fn made(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.origin.code())
            .put(task.sharding_id)
            .put(task.sharding_count)
            .put(task.parent.map(TaskId::get))
            .key(task)
    }

    fn key(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.key.as_ref().map(TaskKey::as_str)).put(task.key_slot)
    }

    fn key_hash(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.key.as_ref().map(|key| key_hash(key).to_vec()))
    }

    fn begun(&mut self, task: &'v Task) -> &mut Self {
        self.put(task.started_at.map(Timestamp::ms)).put(task.begun_due_at.map(Timestamp::ms))
    }

    fn rest(&mut self, task: &'v Task) -> &mut Self {
        let last = task.last_outcome.as_ref();
        self.put(task.token.as_ref().map(<[u8; 32]>::as_slice))
            .put(last.map(|last| last.attempt))
            .put(last.map(|last| last.kind.code()))
            .put(last.map(|last| &*last.reason))
            .put(last.and_then(|last| last.http_status))
            .put(last.map(|last| last.at.ms()))
            .long(task)
    }

    fn long(&mut self, task: &'v Task) -> &mut Self {
        match extra(task.extra.as_deref()) {
            Ok(extra) => self.put(extra),
            Err(why) => {
                self.failed.get_or_insert(why);
                self.put(None::<String>)
            }
        };
        self.put(task.payload.as_deref())
    }
}

fn extra(extra: Option<&TaskExtra>) -> Result<Option<String>, String> {
    extra.map_or(Ok(None), extra_to_json)
}

/// Whether a task is as the defaults of its table have it.
pub(crate) fn is_new(task: &Task) -> bool {
    let never_begun = task.started_at.is_none() && task.begun_due_at.is_none() && task.token.is_none();
    never_begun
        && task.status == Status::Scheduled
        && task.version == 1
        && (task.attempt, task.failed_attempts, task.worker_losses, task.epoch) == (0, 0, 0, 0)
        && task.node.is_none()
        && !task.cancel_requested
        && (task.sharding_id, task.sharding_count, task.parent) == (0, 1, None)
        && task.last_outcome.is_none()
}

/// About how much a row takes in a statement: batches end before the server's packet does.
pub(crate) fn weight(task: &Task) -> usize {
    let payload = task.payload.as_ref().map_or(0, bytes::Bytes::len);
    let extra = if task.extra.is_some() { 4_096 } else { 0 };
    512 + payload + extra
}
