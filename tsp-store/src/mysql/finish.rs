//! The outcomes of attempts, in one transaction for each shard.
//!
//! The fence is `(status 30, attempt, node)`, not the version: a cancel or reset may have come since begin.
//! The row that travelled is tried first: an unchanged one that ends is deleted by its version at once. If
//! any has moved on, the rows are locked, read and decided anew.

use std::collections::HashMap;

use futures::future::join_all;
use tsp_core::task::Task;
use tsp_core::transition::{Change, Event, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::error::Result;
use crate::run::{Each, Finish, Finished};

use super::core::Core;
use super::db::ShardDb;
use super::hot::{insert_ended, lock_tasks};
use super::run::{Placed, by_id, by_shard, in_order, padded_pairs, save_all};
use super::session::query;
use super::text::ROWS_MAX;
use super::tx::Tx;

pub(super) const TASKS_TAKE: &str = "-- tasks_take\nDELETE FROM task_{shard} WHERE (id, version) IN ({rows})";

/// Who closes attempts, and when.
#[derive(Clone, Copy)]
struct Closer<'a> {
    core: &'a Core,
    node: NodeId,
    now: Timestamp,
}

pub(super) async fn finish(core: &Core, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<Finished> {
    let by = Closer { core, node, now };
    let late = batch.iter().map(|_| Ok(Finished::TooLate)).collect();
    let parts = by_shard(core, batch, |finish| finish.id);
    let parts = parts.into_iter().map(|(shard, part)| async move {
        let (on, part) = (&shard, &part);
        let done = shard
            .transact("finish", move |tx| Box::pin(async move { finish_on(tx, on, part, by).await }))
            .await;
        match done {
            Ok(saved) => {
                saved.into_iter().map(|(place, task)| (place, Ok(Finished::Saved(task)))).collect::<Vec<_>>()
            }
            Err(error) => part.iter().map(|one| (one.place, Err(error.clone()))).collect(),
        }
    });
    in_order(late, join_all(parts).await.into_iter().flatten())
}

impl Closer<'_> {
    /// `None`: the attempt is closed, or the row is another one.
    fn close(&self, row: &Task, finish: &Finish) -> Option<Change> {
        let now = finish.ended_at.map_or(self.now, |ended_at| ended_at.min(self.now));
        let config = self.core.config(row.config);
        let rules = Rules::of(config.as_deref(), finish.unit);
        let (attempt, node, verdict) = (finish.attempt, self.node, &finish.verdict);
        transition(row, &Event::Finish { attempt, node, verdict, rules }, now).ok()
    }
}

/// The rows that were saved, by their place in the batch.
async fn finish_on(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    part: &[Placed<Finish>],
    by: Closer<'_>,
) -> Result<Vec<(usize, Box<Task>)>> {
    let (mut ends, mut others) = (HashMap::with_capacity(part.len()), Vec::new());
    for one in part {
        let travelled = one.item.row.as_ref().filter(|row| row.id == one.item.id);
        let change =
            travelled.and_then(|row| by.close(row, &one.item)).filter(|change| !change.task.is_open());
        match change {
            Some(change) if !ends.contains_key(&one.item.id) => {
                ends.insert(one.item.id, (one.place, change));
            }
            _ => others.push(one),
        }
    }
    let mut ends: Vec<(usize, Change)> = ends.into_values().collect();
    ends.sort_unstable_by_key(|(_, change)| change.task.id);
    if !take(tx, on, &ends).await? {
        // What was taken stands as it did.
        tx.conn().rollback().await?;
        tx.conn().begin().await?;
        ends.clear();
        others = part.iter().collect();
    }
    let (places, changes): (Vec<usize>, Vec<Change>) = ends.into_iter().unzip();
    let ended = insert_ended(tx, on, changes).await?;
    let mut saved: Vec<(usize, Box<Task>)> = places.into_iter().zip(ended).collect();
    if !others.is_empty() {
        saved.extend(finish_locked(tx, on, &others, by).await?);
    }
    Ok(saved)
}

/// Deletes rows that are still of the version their end was decided on. Whether all were.
async fn take(tx: &mut Tx<'_>, on: &ShardDb, ends: &[(usize, Change)]) -> Result<bool> {
    for chunk in ends.chunks(ROWS_MAX) {
        let n = padded_pairs(chunk.len());
        let sql = on.sql_rows(TASKS_TAKE, 2, n);
        let mut delete = query(&sql);
        let last = chunk.last().into_iter().cycle();
        for (_, change) in chunk.iter().chain(last).take(n) {
            delete = delete.bind(change.task.id.get()).bind(change.task.version - 1);
        }
        let taken = delete.execute(tx.conn()).await?;
        if usize::try_from(taken) != Ok(chunk.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// By the rows as they are stored, under their locks.
async fn finish_locked(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    part: &[&Placed<Finish>],
    by: Closer<'_>,
) -> Result<Vec<(usize, Box<Task>)>> {
    let ids: Vec<TaskId> = part.iter().map(|one| one.item.id).collect();
    let mut rows = by_id(lock_tasks(tx, on, &ids).await?);
    let mut places = Vec::with_capacity(part.len());
    let mut changes = Vec::with_capacity(part.len());
    for one in part {
        let Some(row) = rows.get(&one.item.id) else { continue };
        let Some(change) = by.close(row, &one.item) else { continue };
        // An attempt is closed once, also within a batch.
        rows.remove(&one.item.id);
        places.push(one.place);
        changes.push(change);
    }
    let saved = save_all(tx, on, changes).await?;
    Ok(places.into_iter().zip(saved).collect())
}
