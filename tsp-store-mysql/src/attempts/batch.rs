//! What workers do with rows besides begin and finish, and what all that change rows share.

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::{Change, Event, Rules, transition};
use tsp_core::{NodeId, ShardId, TaskId, Timestamp};
use tsp_store::attempts::Each;
use tsp_store::backend::columns::open_columns;
use tsp_store::backend::row::{read_executing, read_task};
use tsp_store::backend::row_count::{exactly, one_or_none};
use tsp_store::error::{Result, StoreError};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::all_good;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::{StoreContext, all_of};
use crate::tasks::rows::{insert_attempts, lock_tasks, save_ended};
use crate::tasks::update::update_rows;

pub(crate) const TASKS_LOAD: &str =
    concat!("-- tasks_load\nSELECT ", open_columns!("task_key"), " FROM task_{shard} WHERE id IN ({list})");

const LOAD_QUARANTINE: &str = "-- load_quarantine
UPDATE task_{shard} SET status = 40, version = version + 1 WHERE id = ? AND status = 10";

pub(crate) const TASKS_RELEASE: &str = "-- tasks_release
UPDATE task_{shard} SET status = 0, version = version + 1 WHERE id IN ({list}) AND status = 10";

/// Reads what is queued as well: no more than the fetchers' windows.
pub(crate) const EXECUTING: &str = "-- executing
SELECT id, attempt FROM task_{shard} FORCE INDEX (state) WHERE phase = 1 AND status = 30 AND node = ?";

/// An element of a batch and its index in it.
pub(crate) struct Indexed<T> {
    pub(crate) index: usize,
    pub(crate) item: T,
}

/// The elements of a batch by the shard of their id, in their order. Those of a shard that is not there are
/// left out: they are unowned.
pub(crate) fn by_shard<T>(
    context: &StoreContext,
    batch: Vec<T>,
    id: impl Fn(&T) -> TaskId,
) -> Vec<(ShardDb, Vec<Indexed<T>>)> {
    let mut parts: BTreeMap<ShardId, Vec<Indexed<T>>> = BTreeMap::new();
    for (index, item) in batch.into_iter().enumerate() {
        parts.entry(id(&item).shard()).or_default().push(Indexed { index, item });
    }
    parts.into_iter().filter_map(|(shard, part)| Some((context.shard(shard).ok()?, part))).collect()
}

pub(crate) async fn load(context: &StoreContext, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
    let parts = by_shard(context, ids.to_vec(), |id| *id);
    let parts = parts.into_iter().map(|(shard, part)| async move {
        let ids: Vec<TaskId> = part.iter().map(|one| one.item).collect();
        let rows = load_on(&shard, &ids).await;
        // A message may stand there twice.
        let row = |id| rows.as_ref().map(|rows| rows.get(id).cloned()).map_err(Clone::clone);
        part.iter().map(|one| (one.index, row(&one.item))).collect::<Vec<_>>()
    });
    in_order(ids.iter().map(|_| Ok(None)).collect(), join_all(parts).await.into_iter().flatten())
}

/// Puts answers in the order of their indexes.
pub(crate) fn in_order<T>(
    mut answers: Each<T>,
    indexed: impl IntoIterator<Item = (usize, Result<T>)>,
) -> Each<T> {
    for (index, answer) in indexed {
        answers[index] = answer;
    }
    answers
}

/// The open rows of these ids. One that cannot be read is left out; queued, it is quarantined, that is paused: it would
/// come again for ever.
pub(crate) async fn load_on(shard: &ShardDb, ids: &[TaskId]) -> Result<HashMap<TaskId, Box<Task>>> {
    let mut ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    ids.dedup();
    let ids = &ids;
    let (found, bad) = shard
        .read("load", move |tx| {
            Box::pin(async move {
                let (mut found, mut bad) = (HashMap::with_capacity(ids.len()), Vec::new());
                for chunk in ids.chunks(ROWS_MAX) {
                    let look = Values::of_ids(chunk.iter().copied()).ask(&shard.sql(TASKS_LOAD))?;
                    for row in look.fetch_all(tx.conn()).await? {
                        match read_task(&row) {
                            Ok(task) => {
                                found.insert(task.id, Box::new(task));
                            }
                            Err(error @ StoreError::Corrupt { id, .. }) => {
                                tracing::error!(%error, "a row cannot be read: queued, it is quarantined");
                                bad.push(id);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Ok((found, bad))
            })
        })
        .await?;
    if !bad.is_empty() {
        quarantine(shard, &bad).await?;
    }
    Ok(found)
}

async fn quarantine(shard: &ShardDb, ids: &[i64]) -> Result<()> {
    shard
        .transact("quarantine", move |tx| {
            Box::pin(async move {
                for id in ids {
                    let changed = query(&shard.sql(LOAD_QUARANTINE)).bind(*id).execute(tx.conn()).await?;
                    one_or_none(changed, "load_quarantine")?;
                }
                Ok(())
            })
        })
        .await
}

pub(crate) async fn release(
    context: &StoreContext,
    batch: Vec<(TaskId, i64)>,
    now: Timestamp,
) -> Result<Vec<Task>> {
    let parts = by_shard(context, batch, |(id, _)| *id);
    let parts = parts.into_iter().map(|(shard, part)| async move {
        let part = &part;
        let on = &shard;
        shard
            .transact("release", move |tx| {
                Box::pin(async move {
                    let rows: Vec<(TaskId, i64)> = part.iter().map(|one| one.item).collect();
                    release_on(tx, on, &rows, now).await
                })
            })
            .await
    });
    Ok(all_of(parts).await?.into_iter().flatten().collect())
}

/// The rows that changed, in the order of `batch`.
pub(crate) async fn release_on(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    batch: &[(TaskId, i64)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let ids: Vec<TaskId> = batch.iter().map(|(id, _)| *id).collect();
    let mut rows = by_id(lock_tasks(tx, on, &ids).await?);
    let mut released = Vec::with_capacity(rows.len());
    for (id, version) in batch {
        let Some(row) = rows.get(id) else { continue };
        let Ok(change) = transition(row, &Event::Release { version: *version }, now) else { continue };
        rows.remove(id);
        released.push(change.task);
    }
    let ids = sorted_ids(&released);
    for chunk in ids.chunks(ROWS_MAX) {
        let release = Values::of_ids(chunk.iter().copied()).ask(&on.sql(TASKS_RELEASE))?;
        let changed = release.execute(tx.conn()).await?;
        exactly(chunk.len(), changed, "tasks_release")?;
    }
    Ok(released)
}

pub(crate) fn by_id(rows: impl IntoIterator<Item = Task>) -> HashMap<TaskId, Task> {
    rows.into_iter().map(|row| (row.id, row)).collect()
}

pub(crate) fn sorted_ids<'t>(rows: impl IntoIterator<Item = &'t Task>) -> Vec<i64> {
    let mut ids: Vec<i64> = rows.into_iter().map(|row| row.id.get()).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn executing(
    context: &StoreContext,
    node: NodeId,
    shard: ShardId,
) -> Result<Vec<(TaskId, u32)>> {
    let shard = &context.shard(shard)?;
    shard
        .read("executing", move |tx| {
            Box::pin(async move {
                let rows = query(&shard.sql(EXECUTING)).bind(node.get()).fetch_all(tx.conn()).await?;
                all_good(&rows, read_executing)
            })
        })
        .await
}

pub(crate) async fn release_orphans(
    context: &StoreContext,
    node: NodeId,
    batch: Vec<(TaskId, u32)>,
    now: Timestamp,
) -> Result<Vec<Task>> {
    let parts = by_shard(context, batch, |(id, _)| *id);
    let parts = parts.into_iter().map(|(shard, part)| async move {
        let part = &part;
        let on = &shard;
        shard
            .transact("give_back", move |tx| {
                Box::pin(async move {
                    let lost: Vec<_> = part.iter().map(|one| (one.item.0, node, Some(one.item.1))).collect();
                    mark_worker_lost_on(tx, on, context, &lost, now).await
                })
            })
            .await
    });
    Ok(all_of(parts).await?.into_iter().flatten().collect())
}

/// `worker_lost` for executing rows of these nodes, and of these attempts where one is named. The task goes
/// on at once: a loss knows no delay, so no jitter either.
pub(crate) async fn mark_worker_lost_on(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    context: &StoreContext,
    batch: &[(TaskId, NodeId, Option<u32>)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let ids: Vec<TaskId> = batch.iter().map(|(id, ..)| *id).collect();
    let mut rows = by_id(lock_tasks(tx, on, &ids).await?);
    let mut changes = Vec::with_capacity(rows.len());
    for (id, node, attempt) in batch {
        let Some(row) = rows.get(id) else { continue };
        if attempt.is_some_and(|attempt| attempt != row.attempt) {
            continue;
        }
        let config = context.config(row.config);
        let lost = Event::NodeLost { node: *node, rules: Rules::of(config.as_deref(), 0.0) };
        if let Ok(change) = transition(row, &lost, now) {
            rows.remove(id);
            changes.push(change);
        }
    }
    Ok(save_all(tx, on, changes).await?.into_iter().map(|task| *task).collect())
}

/// Saves changes of rows that this transaction has locked; each row once. The rows, in their order.
pub(crate) async fn save_all(tx: &mut Tx<'_>, on: &ShardDb, changes: Vec<Change>) -> Result<Vec<Box<Task>>> {
    let order: Vec<TaskId> = changes.iter().map(|change| change.task.id).collect();
    let (mut open, ended): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.task.is_open());
    open.sort_unstable_by_key(|change| change.task.id);
    let rows: Vec<(i64, &Task)> = open.iter().map(|change| (change.task.version - 1, &change.task)).collect();
    update_rows(tx, on, &rows).await?;
    let attempts: Vec<AttemptRecord> = open.iter().filter_map(|change| change.closed.clone()).collect();
    insert_attempts(tx, on, &attempts).await?;
    let mut saved: HashMap<TaskId, Box<Task>> =
        open.into_iter().map(|change| (change.task.id, Box::new(change.task))).collect();
    saved.extend(save_ended(tx, on, ended).await?.into_iter().map(|task| (task.id, task)));
    Ok(order.iter().filter_map(|id| saved.remove(id)).collect())
}
