//! Queued to executing: the messages of a batch in one statement for each shard.
//!
//! The row came along with its message, so what it becomes is known before the database is asked; the
//! statement compares versions and the end of the node's lease, and says how many rows it took. Only when
//! some are missing are they looked at.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Change, Event, Refusal, transition};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, Timestamp};
use tsp_store::ConfigReadGuard;
use tsp_store::attempts::{BeginRequest, BeginResult, Each, alike};
use tsp_store::cluster::NodeLease;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::rules;

use crate::attempts::batch::{Indexed, by_id, by_shard, in_order, load_on, save_all};
use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::fault::Fault;
use crate::connection::row::Row;
use crate::connection::session::{Session, query};
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::StoreContext;
use crate::tasks::rows::lock_tasks;

/// The forced index keeps the server from looking through all that is queued. The padding makes room for what a first
/// attempt fills.
pub(crate) const TASKS_BEGIN: &str = "-- tasks_begin
UPDATE task_{shard} FORCE INDEX (PRIMARY) SET status = 30, version = version + 1, attempt = attempt + 1,
    node = ?, started_at = ?, begun_due_at = due_at, token = NULL, padding = NULL
WHERE (id, version) IN ({pairs}) AND status = 10 AND {now} <= ?";

pub(crate) const TASKS_BEGUN: &str = "-- tasks_begun
SELECT id, status, version, attempt, node, started_at FROM task_{shard} WHERE id IN ({list})";

const LEASE_HOLDS: &str = "-- lease_holds\nSELECT {now} <= ?";

/// A begin ends this long before its node's lease does: the database's clock is not the process's.
const LEASE_MARGIN: Millis = Millis::from_secs(1);

/// A begin that meets a deadlock is tried so many times in all.
const TRIES: u32 = 4;

/// Who begins, and until when it may.
#[derive(Debug, Clone, Copy)]
struct Beginner {
    node: NodeId,
    until: Timestamp,
    now: Timestamp,
}

/// What is to be done with a message.
enum Plan {
    Answer(BeginResult),
    /// Just what [`TASKS_BEGIN`] saves: the row as it becomes.
    Plain(Box<Task>),
    /// Decided on this version, saved under a lock.
    Other(i64, Box<Change>),
}

pub(crate) async fn begin(
    context: &StoreContext,
    lease: &NodeLease,
    node: NodeId,
    batch: Vec<BeginRequest>,
    now: Timestamp,
) -> Each<BeginResult> {
    if !lease.holds(now) {
        return alike(Err(lease_over()), batch.len());
    }
    let by = Beginner { node, until: lease.end_at().minus(LEASE_MARGIN), now };
    let stale = batch.iter().map(|_| Ok(BeginResult::Drop(None))).collect();
    let parts = by_shard(context, batch, |begin| begin.id);
    let parts = parts.into_iter().map(|(shard, part)| begin_on(context, shard, part, by));
    in_order(stale, join_all(parts).await.into_iter().flatten())
}

fn lease_over() -> StoreError {
    Cause::LeaseOver.because("the node's lease is over")
}

async fn begin_on(
    context: &StoreContext,
    shard: ShardDb,
    part: Vec<Indexed<BeginRequest>>,
    by: Beginner,
) -> Vec<(usize, Result<BeginResult>)> {
    // Until the last of it is answered.
    let read_guard = context.own.config_cache.read_guard();
    let mut stale = Vec::new();
    let messages = newest(part, &mut stale);
    let mut answers: Vec<_> = stale.into_iter().map(|(index, answer)| (index, Ok(answer))).collect();
    let indexes: Vec<usize> = messages.iter().map(|one| one.index).collect();
    let rows = match with_rows(&shard, messages).await {
        Ok(rows) => rows,
        Err(error) => {
            answers.extend(failed(indexes, &error));
            return answers;
        }
    };
    let (mut plain, mut other) = (Vec::with_capacity(rows.len()), Vec::new());
    for (index, row, message) in rows {
        match plan(context, row, &message, by) {
            Plan::Answer(answer) => answers.push((index, Ok(answer))),
            Plan::Plain(task) => plain.push((index, task)),
            Plan::Other(version, change) => other.push((index, version, change)),
        }
    }
    plain.sort_unstable_by_key(|(_, task)| task.id);
    while !plain.is_empty() {
        let rest = plain.split_off(plain.len().min(ROWS_MAX));
        let rows = std::mem::replace(&mut plain, rest);
        let indexes = rows.iter().map(|row| row.0).collect();
        answers.extend(indexed(begin_plain(context, &shard, rows, by, &read_guard).await, indexes));
    }
    if !other.is_empty() {
        let indexes = other.iter().map(|row| row.0).collect();
        answers.extend(indexed(begin_others(context, &shard, &other, by).await, indexes));
    }
    answers
}

/// What one statement or transaction answered: nothing that others began is lost with it.
fn indexed(
    done: Result<Vec<(usize, BeginResult)>>,
    indexes: Vec<usize>,
) -> Vec<(usize, Result<BeginResult>)> {
    match done {
        Ok(answers) => answers.into_iter().map(|(index, answer)| (index, Ok(answer))).collect(),
        Err(error) => failed(indexes, &error),
    }
}

fn failed(indexes: Vec<usize>, error: &StoreError) -> Vec<(usize, Result<BeginResult>)> {
    indexes.into_iter().map(|index| (index, Err(error.clone()))).collect()
}

/// Of several messages of one task the one of its newest version; the others are stale.
fn newest(
    part: Vec<Indexed<BeginRequest>>,
    answers: &mut Vec<(usize, BeginResult)>,
) -> Vec<Indexed<BeginRequest>> {
    let mut newest: HashMap<TaskId, Indexed<BeginRequest>> = HashMap::with_capacity(part.len());
    for one in part {
        let stale = match newest.remove(&one.item.id) {
            Some(other) if other.item.version >= one.item.version => {
                newest.insert(other.item.id, other);
                Some(one.index)
            }
            other => {
                newest.insert(one.item.id, one);
                other.map(|other| other.index)
            }
        };
        answers.extend(stale.map(|index| (index, BeginResult::Drop(None))));
    }
    newest.into_values().collect()
}

/// Loads the rows of messages that came without one, or with one of another version.
async fn with_rows(
    shard: &ShardDb,
    part: Vec<Indexed<BeginRequest>>,
) -> Result<Vec<(usize, Option<Box<Task>>, BeginRequest)>> {
    let mut rows = Vec::with_capacity(part.len());
    let mut missing = Vec::new();
    for Indexed { index, item: mut message } in part {
        let inline = message.row.take().filter(|row| row.id == message.id && row.version == message.version);
        if inline.is_none() {
            missing.push(message.id);
        }
        rows.push((index, inline, message));
    }
    if missing.is_empty() {
        return Ok(rows);
    }
    let mut loaded = load_on(shard, &missing).await?;
    for (_, row, message) in rows.iter_mut().filter(|(_, row, _)| row.is_none()) {
        *row = loaded.remove(&message.id);
    }
    Ok(rows)
}

fn plan(context: &StoreContext, row: Option<Box<Task>>, message: &BeginRequest, by: Beginner) -> Plan {
    let Some(row) = row else { return Plan::Answer(BeginResult::Drop(None)) };
    let runnable = runnable(context, row.config);
    let event = Event::Begin { version: message.version, node: by.node, runnable, token: message.token };
    match transition(&row, &event, by.now) {
        Ok(change) if is_plain(&change) => Plan::Plain(Box::new(change.task)),
        Ok(change) => Plan::Other(row.version, Box::new(change)),
        Err(Refusal::NotDue { due_at }) => Plan::Answer(BeginResult::Wait(due_at)),
        Err(_) => Plan::Answer(BeginResult::Drop(None)),
    }
}

/// Whether a change is just what [`TASKS_BEGIN`] saves.
fn is_plain(change: &Change) -> bool {
    rules::is_plain(change, Status::Executing) && change.task.token.is_none() && change.task.extra.is_none()
}

/// At most [`ROWS_MAX`] rows, by rising id.
async fn begin_plain(
    context: &StoreContext,
    shard: &ShardDb,
    rows: Vec<(usize, Box<Task>)>,
    by: Beginner,
    read_guard: &ConfigReadGuard,
) -> Result<Vec<(usize, BeginResult)>> {
    let mut conn = shard.conn().await?;
    conn.hold_read_guard(read_guard.clone());
    // Others may have come first for the connection: what was held meanwhile is decided again.
    let (rows, held): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, task)| runnable(context, task.config));
    let held = held.into_iter().map(|(index, _)| (index, BeginResult::Wait(by.now)));
    if rows.is_empty() {
        return Ok(held.collect());
    }
    let begun = update(&mut conn, shard, &rows, by).await?;
    if usize::try_from(begun) == Ok(rows.len()) {
        let begun = rows.into_iter().map(|(index, task)| (index, BeginResult::Run(task)));
        return Ok(begun.chain(held).collect());
    }
    let look = Values::of_ids(rows.iter().map(|(_, task)| task.id.get())).ask(&shard.sql(TASKS_BEGUN))?;
    let mut stored = HashMap::with_capacity(rows.len());
    for row in look.fetch_all(&mut conn).await? {
        let seen = RowSnapshot::read(&row)?;
        stored.insert(seen.id, seen);
    }
    let mut answers = sort_out(rows, &stored, begun, by)?;
    answers.extend(held);
    Ok(answers)
}

fn runnable(context: &StoreContext, config: ConfigId) -> bool {
    context.config(config).is_some_and(|config| config.runnable())
}

/// One statement that is its own commit: a deadlock is retried, a lost answer is not known.
async fn update(
    conn: &mut Session,
    shard: &ShardDb,
    rows: &[(usize, Box<Task>)],
    by: Beginner,
) -> Result<u64> {
    let sql = shard.sql(TASKS_BEGIN);
    let mut tries = 0;
    loop {
        let mut update = query(&sql).bind(by.node.get()).bind(by.now.ms());
        for (_, task) in rows {
            update = update.bind(task.id.get()).bind(task.version - 1);
        }
        tries += 1;
        match update.bind(by.until.ms()).execute(conn).await {
            Err(_) if conn.fault() == Some(Fault::Again) && tries < TRIES => {}
            Err(StoreError::Unavailable { why, .. }) if conn.fault() == Some(Fault::Broken) => {
                return Err(StoreError::Unknown(why));
            }
            done => return done,
        }
    }
}

/// A row after the statement.
struct RowSnapshot {
    id: i64,
    status: i64,
    version: i64,
    attempt: i64,
    node: Option<i64>,
    started_at: Option<i64>,
}

impl RowSnapshot {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            status: row.get(1)?,
            version: row.get(2)?,
            attempt: row.get(3)?,
            node: row.get(4)?,
            started_at: row.get(5)?,
        })
    }

    /// Begun as `task` says. Its version may have risen since, by a cancel or reset.
    fn is_begun(&self, task: &Task) -> bool {
        self.status == i64::from(Status::Executing.code())
            && self.attempt == i64::from(task.attempt)
            && self.node == task.node.map(NodeId::get)
            && self.started_at == task.started_at.map(Timestamp::ms)
    }

    /// Left alone although its version fits: only the end of the lease does that.
    fn is_refused(&self, task: &Task) -> bool {
        self.status == i64::from(Status::Queued.code()) && self.version == task.version - 1
    }
}

/// Fewer rows were begun than sent: which, and why not the others.
fn sort_out(
    rows: Vec<(usize, Box<Task>)>,
    stored: &HashMap<i64, RowSnapshot>,
    begun: u64,
    by: Beginner,
) -> Result<Vec<(usize, BeginResult)>> {
    let seen = |task: &Task| stored.get(&task.id.get());
    if rows.iter().any(|(_, task)| seen(task).is_some_and(|seen| seen.is_refused(task))) {
        return Err(lease_over());
    }
    let is_begun = |task: &Task| seen(task).is_some_and(|seen| seen.is_begun(task));
    let count = rows.iter().filter(|(_, task)| is_begun(task)).count();
    // More than were begun: some by an earlier message in the same millisecond, and it cannot be told which.
    // None is run; the worker finds them under its id, orphaned, and releases them.
    let told = u64::try_from(count).is_ok_and(|count| count <= begun);
    if !told {
        tracing::warn!(node = by.node.get(), count, begun, "messages came twice and were begun at once");
    }
    let answer = |task: Box<Task>| {
        if told && is_begun(&task) { BeginResult::Run(task) } else { BeginResult::Drop(None) }
    };
    Ok(rows.into_iter().map(|(index, task)| (index, answer(task))).collect())
}

/// Rows with a token or with fields that most have not, and those that return to scheduled or end instead.
async fn begin_others(
    context: &StoreContext,
    shard: &ShardDb,
    rows: &[(usize, i64, Box<Change>)],
    by: Beginner,
) -> Result<Vec<(usize, BeginResult)>> {
    let ids: Vec<TaskId> = rows.iter().map(|(_, _, change)| change.task.id).collect();
    let ids = &ids;
    shard
        .transact("begin", move |tx| {
            Box::pin(async move {
                let versions: HashMap<TaskId, i64> =
                    lock_tasks(tx, shard, ids).await?.into_iter().map(|row| (row.id, row.version)).collect();
                if !lease_holds(tx, shard, by.until).await? {
                    return Err(lease_over());
                }
                // It was decided before the transaction: what was held meanwhile is decided again.
                let mut held = HashSet::new();
                let mut changes = Vec::with_capacity(rows.len());
                for (_, version, change) in rows {
                    let task = &change.task;
                    let config = tx.config(&context.config_cache, task.config);
                    if task.status == Status::Executing && !config.is_some_and(|config| config.runnable()) {
                        held.insert(task.id);
                    } else if versions.get(&task.id) == Some(version) {
                        changes.push(Change::clone(change));
                    }
                }
                let mut saved = by_id(save_all(tx, shard, changes).await?.into_iter().map(|task| *task));
                let answer = |id| match saved.remove(&id) {
                    Some(task) if task.status == Status::Executing => BeginResult::Run(Box::new(task)),
                    None if held.contains(&id) => BeginResult::Wait(by.now),
                    saved => BeginResult::Drop(saved.map(Box::new)),
                };
                let ids = rows.iter().map(|(_, _, change)| change.task.id);
                let answers = rows.iter().map(|row| row.0).zip(ids.map(answer)).collect();
                Ok(answers)
            })
        })
        .await
}

/// By the database's clock, after the rows were locked.
async fn lease_holds(tx: &mut Tx<'_>, shard: &ShardDb, until: Timestamp) -> Result<bool> {
    let row = query(&shard.sql(LEASE_HOLDS)).bind(until.ms()).fetch_one(tx.conn()).await?;
    Ok(row.get::<i64>(0)? != 0)
}
