//! The writes of the hot path, all within a transaction of one shard.
//!
//! What a row becomes is decided by `tsp_core::transition`; here it is only saved. One row is fenced by the
//! version that the decision was made on; a batch by the locks that [`lock_tasks`] took in this transaction.

use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::Change;
use tsp_core::{Millis, NodeId, TaskId, Timestamp};
use tsp_store::backend::columns::{attempt_columns, ended_columns, open_columns};
use tsp_store::backend::row::read_task;
use tsp_store::backend::row_count::{exactly, one_or_none};
use tsp_store::backend::sums::Sums;
use tsp_store::error::Result;
use tsp_store::rules::ended_at_first_try;

use crate::connection::bind::{
    ATTEMPT_WIDTH, HISTORY_WIDTH, NEW_WIDTH, TASK_WIDTH, Values, history_columns, is_new, new_columns,
    task_columns, weight,
};
use crate::connection::db::{ShardDb, add_sums};
use crate::connection::fault::Fault;
use crate::connection::row::{Row, all_good};
use crate::connection::session::{Statement, query};
use crate::connection::statement_templates::{ROWS_MAX, StatementText, batch_size, rows_max};
use crate::connection::tx::Tx;
use crate::tasks::update::update;

/// A task as it is submitted or scheduled: what it does not name has a default.
const TASK_INSERT_NEW: &str =
    concat!("-- task_insert_new\nINSERT INTO task_{shard} (", new_columns!(), ") VALUES {rows}");
const TASK_INSERT: &str =
    concat!("-- task_insert\nINSERT INTO task_{shard} (", task_columns!(), ") VALUES {rows}");

pub(crate) const TASK_DELETE: &str = "-- task_delete\nDELETE FROM task_{shard} WHERE id = ? AND version = ?";
pub(crate) const TASKS_DELETE: &str = "-- tasks_delete\nDELETE FROM task_{shard} WHERE id IN ({list})";

const HISTORY_INSERT: &str =
    concat!("-- history_insert\nINSERT INTO history_{shard} (", history_columns!(), ") VALUES {rows}");
const ATTEMPT_INSERT: &str =
    concat!("-- attempt_insert\nINSERT INTO attempt_{shard} (", attempt_columns!(), ") VALUES {rows}");

pub(crate) const TASK_OPEN: &str =
    concat!("-- task_open\nSELECT ", open_columns!("task_key"), " FROM task_{shard} WHERE id = ?");
pub(crate) const TASKS_LOCK: &str = concat!(
    "-- tasks_lock\nSELECT ",
    open_columns!("task_key"),
    " FROM task_{shard} WHERE id IN ({list}) ORDER BY id FOR UPDATE"
);
const TASK_LOCK: &str =
    concat!("-- task_lock\nSELECT ", open_columns!("task_key"), " FROM task_{shard} WHERE id = ? FOR UPDATE");

pub(crate) const ATTEMPTS_DROP: &str = "-- prune_attempts
DELETE FROM attempt_{shard} WHERE task_id IN ({list})";

/// A task ends after its id was made, on clocks that are less than a day apart, so that most partitions need
/// not be asked. What is not found so is looked for everywhere.
const ENDED_LATELY: &str = concat!(
    "-- task_ended\nSELECT ",
    ended_columns!("task_key"),
    " FROM history_{shard} WHERE id = ? AND ended_at >= ?"
);
const ENDED_AT_ANY_TIME: &str =
    concat!("-- task_ended_ever\nSELECT ", ended_columns!("task_key"), " FROM history_{shard} WHERE id = ?");

/// A statement takes about this many bytes, and [`ROWS_MAX`] rows.
const BYTES_MAX: usize = 4 << 20;

/// The open row of `id`, as it was last committed or as this transaction left it.
pub(crate) async fn open_task(tx: &mut Tx<'_>, on: &ShardDb, id: TaskId) -> Result<Option<Task>> {
    one_task(tx, &on.sql(TASK_OPEN), id).await
}

/// The same, and nobody else changes it before this transaction ends.
pub(crate) async fn lock_task(tx: &mut Tx<'_>, on: &ShardDb, id: TaskId) -> Result<Option<Task>> {
    one_task(tx, &on.sql(TASK_LOCK), id).await
}

async fn one_task(tx: &mut Tx<'_>, sql: &StatementText, id: TaskId) -> Result<Option<Task>> {
    query(sql).bind(id.get()).fetch_optional(tx.conn()).await?.as_ref().map(read_task).transpose()
}

/// The row of an ended task.
pub(crate) async fn ended_task(tx: &mut Tx<'_>, on: &ShardDb, id: TaskId) -> Result<Option<Task>> {
    let lately = query(&on.sql(ENDED_LATELY)).bind(id.get()).bind(ended_from(id).ms());
    match lately.fetch_optional(tx.conn()).await? {
        Some(row) => read_task(&row).map(Some),
        None => one_task(tx, &on.sql(ENDED_AT_ANY_TIME), id).await,
    }
}

/// Before this a task with this id has not ended, unless a clock was wrong by a day.
pub(crate) fn ended_from(id: TaskId) -> Timestamp {
    id.made_at().minus(Millis::from_days(1))
}

/// Locks open rows in rising order of their ids, whatever the order they are named in. Those that are not
/// open are left out, and bad ones are reported.
pub(crate) async fn lock_tasks(tx: &mut Tx<'_>, on: &ShardDb, ids: &[TaskId]) -> Result<Vec<Task>> {
    let mut ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut tasks = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(ROWS_MAX) {
        let lock = Values::of_ids(chunk.iter().copied()).ask(&on.sql(TASKS_LOCK))?;
        let rows = lock.fetch_all(tx.conn()).await?;
        tasks.extend(all_good(&rows, read_task)?);
    }
    Ok(tasks)
}

/// Inserts tasks in their order and says of each whether it was: not when an open task has its id, or holds
/// its key in its slot. Only the statement that has such a one is tried again in smaller batch size classes.
pub(crate) async fn insert_tasks(tx: &mut Tx<'_>, on: &ShardDb, tasks: &[&Task]) -> Result<Vec<bool>> {
    let mut inserted = Vec::with_capacity(tasks.len());
    let width = if tasks.iter().all(|task| is_new(task)) { NEW_WIDTH } else { TASK_WIDTH };
    let mut steps: Vec<&[&Task]> = steps(tasks, width, |task| weight(task)).collect();
    steps.reverse();
    while let Some(step) = steps.pop() {
        if insert_step(tx, on, step).await? {
            inserted.extend(std::iter::repeat_n(true, step.len()));
            continue;
        }
        match step.len() / 2 {
            0 => inserted.push(false),
            half => steps.extend(step.chunks(half).rev()),
        }
    }
    Ok(inserted)
}

/// Whether it was inserted: not when an open task has its id, or holds its key in its slot.
pub(crate) async fn insert_task(tx: &mut Tx<'_>, on: &ShardDb, task: &Task) -> Result<bool> {
    insert_step(tx, on, &[task]).await
}

/// InnoDB takes back a statement that fails, and leaves the transaction as it was.
async fn insert_step(tx: &mut Tx<'_>, on: &ShardDb, tasks: &[&Task]) -> Result<bool> {
    let Write { statement, rows } = insert(on, tasks)?;
    let Some(inserted) = statement.execute_unless_duplicate(tx.conn()).await? else { return Ok(false) };
    exactly(rows, inserted, "task_insert")?;
    tx.sums.accepted += count(rows);
    Ok(true)
}

/// Inserts a few tasks and asks something of them, with their sum, in one text. `None`: they are too many, or one
/// of them clashes; none is inserted then.
pub(crate) async fn insert_few(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    tasks: &[&Task],
    then: Statement<'_>,
) -> Result<Option<Vec<Row>>> {
    if !tasks.len().is_power_of_two() {
        return Ok(None);
    }
    let Write { statement, rows } = insert(on, tasks)?;
    if !statement.is_short() {
        return Ok(None);
    }
    let sum = Sums { accepted: count(rows), ..Sums::default() };
    let asked = tx.conn().ask_all("insert_few", &[statement, add_sums(&sum, on), then]).await;
    let mut answers = match asked {
        Err(_) if tx.conn().fault() == Some(Fault::Duplicate) => return Ok(None),
        answers => answers?.into_iter(),
    };
    exactly(rows, answers.next().map_or(0, |inserted| inserted.matched), "task_insert")?;
    Ok(answers.next_back().map(|asked| asked.rows))
}

fn insert<'v>(on: &ShardDb, tasks: &[&'v Task]) -> Result<Write<'v>> {
    let new = tasks.iter().all(|task| is_new(task));
    let mut values = Values::default();
    for task in tasks {
        if new { values.new_task(task) } else { values.task(task) }
    }
    let (template, width) = if new { (TASK_INSERT_NEW, NEW_WIDTH) } else { (TASK_INSERT, TASK_WIDTH) };
    let statement = values.ask(&on.sql_rows(template, width, tasks.len()))?;
    Ok(Write { statement, rows: tasks.len() })
}

/// Saves a change of an open row that was decided on `version`. `None`: it has another version now.
pub(crate) async fn save(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    version: i64,
    change: Change,
) -> Result<Option<Box<Task>>> {
    if change.task.is_open() {
        if !update(tx, on, version, &change.task).await? {
            return Ok(None);
        }
        insert_attempts(tx, on, change.closed.as_slice()).await?;
        return Ok(Some(Box::new(change.task)));
    }
    let mut values = Values::default();
    values.put(change.task.id.get()).put(version);
    let sql = on.sql(TASK_DELETE);
    let deleted = values.ask(&sql)?.execute(tx.conn()).await?;
    if !one_or_none(deleted, "task_delete")? {
        return Ok(None);
    }
    Ok(insert_ended(tx, on, vec![change]).await?.pop())
}

/// Saves ends of rows that this transaction has locked, in their order.
pub(crate) async fn save_ended(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    changes: Vec<Change>,
) -> Result<Vec<Box<Task>>> {
    let mut ids: Vec<i64> = changes.iter().map(|change| change.task.id.get()).collect();
    ids.sort_unstable();
    for chunk in ids.chunks(ROWS_MAX) {
        let delete = Values::of_ids(chunk.iter().copied()).ask(&on.sql(TASKS_DELETE))?;
        let deleted = delete.execute(tx.conn()).await?;
        exactly(chunk.len(), deleted, "tasks_delete")?;
    }
    insert_ended(tx, on, changes).await
}

/// Writes rows of history, and attempts with them, for tasks that are no longer among the open ones.
pub(crate) async fn insert_ended(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    changes: Vec<Change>,
) -> Result<Vec<Box<Task>>> {
    let ended = EndedRows::of(changes);
    for insert in ended.inserts(on) {
        insert?.execute(tx).await?;
    }
    Ok(ended.counted(tx).collect())
}

/// A statement, and how many rows it is about.
pub(crate) struct Write<'v> {
    pub(crate) statement: Statement<'v>,
    pub(crate) rows: usize,
}

impl Write<'_> {
    pub(crate) async fn execute(self, tx: &mut Tx<'_>) -> Result<()> {
        let name = self.statement.name();
        exactly(self.rows, self.statement.execute(tx.conn()).await?, name)
    }
}

/// What ended tasks leave: a row of history each, and their last attempt if it was not the first.
pub(crate) struct EndedRows {
    tasks: Vec<(Box<Task>, Option<NodeId>)>,
    attempts: Vec<AttemptRecord>,
}

impl EndedRows {
    pub(crate) fn of(changes: Vec<Change>) -> Self {
        let mut attempts = Vec::new();
        let mut tasks = Vec::with_capacity(changes.len());
        for Change { mut task, closed, .. } in changes {
            let node = closed.as_ref().and_then(|closed| closed.node);
            if let Some(mut closed) = closed {
                if !ended_at_first_try(&task) {
                    attempts.push(closed);
                } else if let Some(excerpt) = closed.excerpt.take() {
                    // It has no attempt row of its own; see `attempts`.
                    task.extra_mut().excerpt = Some(excerpt);
                }
            }
            tasks.push((Box::new(task), node));
        }
        Self { tasks, attempts }
    }

    pub(crate) fn tasks(&self) -> impl ExactSizeIterator<Item = &Task> {
        self.tasks.iter().map(|(task, _)| &**task)
    }

    pub(crate) fn inserts<'e>(&'e self, on: &'e ShardDb) -> impl Iterator<Item = Result<Write<'e>>> {
        let history = steps(&self.tasks, HISTORY_WIDTH, |(task, _)| weight(task)).map(|step| {
            let mut values = Values::default();
            for (task, node) in step {
                values.history(task, *node)?;
            }
            let sql = on.sql_rows(HISTORY_INSERT, HISTORY_WIDTH, step.len());
            Ok(Write { statement: values.ask(&sql)?, rows: step.len() })
        });
        history.chain(attempt_inserts(on, &self.attempts))
    }

    /// Adds them to the sums, once they are written.
    pub(crate) fn counted(self, tx: &mut Tx<'_>) -> impl Iterator<Item = Box<Task>> + use<> {
        for (task, _) in &self.tasks {
            tx.sums.end(task.result);
        }
        self.tasks.into_iter().map(|(task, _)| task)
    }
}

pub(crate) async fn insert_attempts(tx: &mut Tx<'_>, on: &ShardDb, records: &[AttemptRecord]) -> Result<()> {
    for insert in attempt_inserts(on, records) {
        insert?.execute(tx).await?;
    }
    Ok(())
}

fn attempt_inserts<'e>(
    on: &'e ShardDb,
    records: &'e [AttemptRecord],
) -> impl Iterator<Item = Result<Write<'e>>> {
    let weight = |record: &AttemptRecord| 256 + record.excerpt.as_ref().map_or(0, |text| text.len());
    steps(records, ATTEMPT_WIDTH, weight).map(|step| {
        let mut values = Values::default();
        for record in step {
            values.attempt(record);
        }
        let sql = on.sql_rows(ATTEMPT_INSERT, ATTEMPT_WIDTH, step.len());
        Ok(Write { statement: values.ask(&sql)?, rows: step.len() })
    })
}

/// Any number of them, none for a task that succeeded at the first try.
pub(crate) async fn drop_attempts(tx: &mut Tx<'_>, on: &ShardDb, tasks: &[i64]) -> Result<()> {
    for chunk in tasks.chunks(ROWS_MAX) {
        Values::of_ids(chunk.iter().copied()).ask(&on.sql(ATTEMPTS_DROP))?.execute(tx.conn()).await?;
    }
    Ok(())
}

/// `rows` of so many columns in batch size classes, each of about [`BYTES_MAX`] at most.
fn steps<'r, T>(
    rows: &'r [T],
    width: usize,
    weight: impl Fn(&T) -> usize + 'r,
) -> impl Iterator<Item = &'r [T]> {
    let mut left = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = left.iter().take(rows_max(width)).take_while(|row| {
            bytes += weight(row);
            bytes <= BYTES_MAX
        });
        // A row that is too big alone is sent alone.
        let step = batch_size(fitting.count().max(1).min(left.len()), width)?;
        let (step, rest) = left.split_at(step);
        left = rest;
        Some(step)
    })
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
