//! What the owner rescues: rows of lost messages, of lost workers, of receivers that did not complete.

use tsp_core::task::Task;
use tsp_core::transition::{Event, Rules, transition};
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::backend::columns::open_columns;
use tsp_store::backend::row::read_task;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::attempts::batch::{mark_worker_lost_on, release_on, save_all};
use crate::connection::row::all_good;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;
use crate::fetching::group_rows::GroupRows;

/// As [`crate::fetching::claim::CLAIM_SELECT`]: the index has each config's deadlines in order, too.
pub(crate) const WAITS_OVER: &str = concat!(
    "-- waits_over\nSELECT ",
    open_columns!("task_key"),
    " FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = 3 AND due_at <= ? ORDER BY due_at, id LIMIT ? FOR UPDATE"
);

/// As [`crate::fetching::claim::EARLIEST_DUE`].
pub(crate) const DEADLINES: &str = "-- next_deadline
SELECT c.config_id, (
    SELECT t.due_at FROM task_{shard} AS t FORCE INDEX (claim)
    WHERE t.config_id = c.config_id AND t.phase = 3 ORDER BY t.due_at LIMIT 1
) FROM (SELECT DISTINCT config_id FROM task_{shard} FORCE INDEX (claim)) AS c";

pub(crate) async fn return_to_scheduled(
    of: &GroupRows,
    owner: Owner,
    rows: &[(TaskId, i64)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let shard = &of.shard()?;
    shard
        .transact("rearm", move |tx| {
            Box::pin(async move {
                if owns(tx, of, owner).await? {
                    release_on(tx, shard, rows, now).await
                } else {
                    Ok(Vec::new())
                }
            })
        })
        .await
}

pub(crate) async fn mark_worker_lost(
    of: &GroupRows,
    owner: Owner,
    rows: &[(TaskId, NodeId)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let shard = &of.shard()?;
    let lost: Vec<_> = rows.iter().map(|(id, node)| (*id, *node, None)).collect();
    let lost = &lost;
    shard
        .transact("lose", move |tx| {
            Box::pin(async move {
                if owns(tx, of, owner).await? {
                    mark_worker_lost_on(tx, shard, &of.context, lost, now).await
                } else {
                    Ok(Vec::new())
                }
            })
        })
        .await
}

/// Config after config, so that the waits of another group are neither locked nor in the way.
pub(crate) async fn end_waits(
    of: &GroupRows,
    owner: Owner,
    limit: usize,
    jitter_fraction: f64,
    now: Timestamp,
) -> Result<Vec<Task>> {
    let mut over = of.firsts("end_waits", DEADLINES).await?;
    over.retain(|first| first.due_at <= now);
    if over.is_empty() {
        return Ok(Vec::new());
    }
    over.sort_unstable_by_key(|first| first.due_at);
    let over = &over;
    let shard = &of.shard()?;
    shard
        .transact("end_waits", move |tx| {
            Box::pin(async move {
                let mut changed = Vec::new();
                if !owns(tx, of, owner).await? {
                    return Ok(changed);
                }
                for first in over {
                    if changed.len() >= limit {
                        break;
                    }
                    let left = limit - changed.len();
                    changed.extend(end_waits_of(tx, of, first.config, left, jitter_fraction, now).await?);
                }
                Ok(changed)
            })
        })
        .await
}

async fn end_waits_of(
    tx: &mut Tx<'_>,
    of: &GroupRows,
    config: ConfigId,
    limit: usize,
    jitter_fraction: f64,
    now: Timestamp,
) -> Result<Vec<Task>> {
    let shard = of.shard()?;
    let select = query(&shard.sql(WAITS_OVER)).bind(config.get()).bind(now.ms()).bind(sql_limit(limit));
    let over = all_good(&select.fetch_all(tx.conn()).await?, read_task)?;
    let decide = |row: &Task| {
        let config = of.context.config(row.config);
        transition(row, &Event::Deadline { rules: Rules::of(config.as_deref(), jitter_fraction) }, now).ok()
    };
    let changes = over.iter().filter_map(decide).collect();
    Ok(save_all(tx, &shard, changes).await?.into_iter().map(|task| *task).collect())
}

pub(crate) async fn next_deadline(of: &GroupRows) -> Result<Option<Timestamp>> {
    Ok(of.firsts("next_deadline", DEADLINES).await?.into_iter().map(|first| first.due_at).min())
}
