//! The outcomes of attempts, in one transaction for each shard.
//!
//! The fence is `(executing, attempt, node)`, not the version: a cancel or reset may have come since begin.
//! The inline row is tried first: an unchanged one that ends is deleted by its version at once. If
//! any has moved on, the rows are locked, read and decided again.

use std::collections::HashMap;
use std::iter;

use futures::future::join_all;
use tsp_core::task::Task;
use tsp_core::transition::{Change, Event, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};
use tsp_store::attempts::{Each, Finish, FinishResult};
use tsp_store::backend::row_count::exactly;
use tsp_store::error::Result;

use crate::attempts::batch::{Indexed, by_id, by_shard, in_order, save_all};
use crate::connection::db::ShardDb;
use crate::connection::fault::Fault;
use crate::connection::session::{Statement, query};
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::StoreContext;
use crate::tasks::rows::{EndedRows, Write, lock_tasks};

pub(crate) const TASKS_TAKE: &str =
    "-- tasks_take\nDELETE FROM task_{shard} WHERE (id, version) IN ({pairs})";

/// So many ends are worth more in one text, which is one round trip, than as statements that are prepared.
const SHORT_ENDS: usize = 4;

/// Who closes attempts, and when.
#[derive(Clone, Copy)]
struct Closer<'a> {
    context: &'a StoreContext,
    node: NodeId,
    now: Timestamp,
}

pub(crate) async fn finish(
    context: &StoreContext,
    node: NodeId,
    batch: Vec<Finish>,
    now: Timestamp,
) -> Each<FinishResult> {
    let by = Closer { context, node, now };
    let late = batch.iter().map(|_| Ok(FinishResult::TooLate)).collect();
    let parts = by_shard(context, batch, |finish| finish.id);
    let parts = parts.into_iter().map(|(shard, part)| async move {
        let (on, part) = (&shard, &part);
        let done = shard
            .transact("finish", move |tx| Box::pin(async move { finish_on(tx, on, part, by).await }))
            .await;
        match done {
            Ok(saved) => saved
                .into_iter()
                .map(|(index, task)| (index, Ok(FinishResult::Saved(task))))
                .collect::<Vec<_>>(),
            Err(error) => part.iter().map(|one| (one.index, Err(error.clone()))).collect(),
        }
    });
    in_order(late, join_all(parts).await.into_iter().flatten())
}

impl Closer<'_> {
    /// `None`: the attempt is closed, or the row is another one.
    fn close(&self, row: &Task, finish: &Finish) -> Option<Change> {
        let now = finish.ended_at.map_or(self.now, |ended_at| ended_at.min(self.now));
        let config = self.context.config(row.config);
        let rules = Rules::of(config.as_deref(), finish.jitter_fraction);
        let (attempt, node, verdict) = (finish.attempt, self.node, &finish.verdict);
        transition(row, &Event::Finish { attempt, node, verdict, rules }, now).ok()
    }
}

/// The rows that were saved, by their index in the batch.
async fn finish_on(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    part: &[Indexed<Finish>],
    by: Closer<'_>,
) -> Result<Vec<(usize, Box<Task>)>> {
    let (mut ends, mut others) = (HashMap::with_capacity(part.len()), Vec::new());
    for one in part {
        let inline = one.item.row.as_ref().filter(|row| row.id == one.item.id);
        let change = inline.and_then(|row| by.close(row, &one.item)).filter(|change| !change.task.is_open());
        match change {
            Some(change) if !ends.contains_key(&one.item.id) => {
                ends.insert(one.item.id, (one.index, change));
            }
            _ => others.push(one),
        }
    }
    let mut ends: Vec<(usize, Change)> = ends.into_values().collect();
    ends.sort_unstable_by_key(|(_, change)| change.task.id);
    let (indexes, changes): (Vec<usize>, Vec<Change>) = ends.into_iter().unzip();
    let ended = EndedRows::of(changes);
    let mut saved: Vec<(usize, Box<Task>)> = Vec::new();
    if save(tx, on, &ended).await? {
        saved.extend(indexes.into_iter().zip(ended.counted(tx)));
    } else {
        // What was taken stands as it did.
        tx.conn().rollback().await?;
        tx.conn().begin()?;
        others = part.iter().collect();
    }
    if !others.is_empty() {
        saved.extend(finish_locked(tx, on, &others, by).await?);
    }
    Ok(saved)
}

/// Deletes rows that are still of the version their end was decided on, and writes what they leave. Whether all
/// were; if not, what is written so far must not stay.
async fn save(tx: &mut Tx<'_>, on: &ShardDb, ended: &EndedRows) -> Result<bool> {
    let tasks: Vec<&Task> = ended.tasks().collect();
    if (1..=SHORT_ENDS).contains(&tasks.len()) {
        let writes = iter::once(Ok(take(on, &tasks))).chain(ended.inserts(on));
        let writes: Vec<Write<'_>> = writes.collect::<Result<_>>()?;
        if writes.iter().all(|write| write.statement.is_short()) {
            return save_at_once(tx, writes).await;
        }
    }
    for Write { statement, rows } in tasks.chunks(ROWS_MAX).map(|chunk| take(on, chunk)) {
        let taken = statement.execute(tx.conn()).await?;
        if usize::try_from(taken) != Ok(rows) {
            return Ok(false);
        }
    }
    for insert in ended.inserts(on) {
        insert?.execute(tx).await?;
    }
    Ok(true)
}

/// In one text. The first of them takes.
async fn save_at_once(tx: &mut Tx<'_>, writes: Vec<Write<'_>>) -> Result<bool> {
    let (rows, statements): (Vec<usize>, Vec<Statement<'_>>) =
        writes.into_iter().map(|write| (write.rows, write.statement)).unzip();
    let answers = match tx.conn().ask_all("finish", &statements).await {
        Ok(answers) => answers,
        // It has ended otherwise, in the same millisecond.
        Err(_) if tx.conn().fault() == Some(Fault::Duplicate) => return Ok(false),
        Err(error) => return Err(error),
    };
    for (at, ((rows, statement), answer)) in rows.into_iter().zip(&statements).zip(answers).enumerate() {
        if at == 0 && usize::try_from(answer.matched) != Ok(rows) {
            return Ok(false);
        }
        exactly(rows, answer.matched, statement.name())?;
    }
    Ok(true)
}

fn take<'v>(on: &ShardDb, tasks: &[&Task]) -> Write<'v> {
    let delete = tasks
        .iter()
        .fold(query(&on.sql(TASKS_TAKE)), |delete, task| delete.bind(task.id.get()).bind(task.version - 1));
    Write { statement: delete, rows: tasks.len() }
}

/// By the rows as they are stored, under their locks.
async fn finish_locked(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    part: &[&Indexed<Finish>],
    by: Closer<'_>,
) -> Result<Vec<(usize, Box<Task>)>> {
    let ids: Vec<TaskId> = part.iter().map(|one| one.item.id).collect();
    let mut rows = by_id(lock_tasks(tx, on, &ids).await?);
    let mut indexes = Vec::with_capacity(part.len());
    let mut changes = Vec::with_capacity(part.len());
    for one in part {
        let Some(row) = rows.get(&one.item.id) else { continue };
        let Some(change) = by.close(row, &one.item) else { continue };
        // An attempt is closed once, also within a batch.
        rows.remove(&one.item.id);
        indexes.push(one.index);
        changes.push(change);
    }
    let saved = save_all(tx, on, changes).await?;
    Ok(indexes.into_iter().zip(saved).collect())
}
