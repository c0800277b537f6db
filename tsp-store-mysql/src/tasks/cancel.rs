//! Open tasks of a config: how many there are, and a cancel of all, bit by bit.
use tsp_core::task::{Phase, Status};
use tsp_core::task_key::config_shard;
use tsp_core::transition::{Change, Event, transition};
use tsp_core::{ConfigId, ShardId, TaskId, Timestamp};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;
use tsp_store::tasks::{Actor, CancelCount};

use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::{StoreContext, all_of};
use crate::tasks::rows::{insert_attempts, lock_tasks, save_ended};
use crate::tasks::update::update_rows;

/// What a cancel still changes, in the order in which it goes through them.
const STATUSES: [Status; 5] =
    [Status::Scheduled, Status::Paused, Status::Awaiting, Status::Queued, Status::Executing];

/// An executing task that is flagged already is left alone.
pub(crate) const CANCELLABLE: &str = "-- cancel_open
SELECT id FROM task_{shard} WHERE config_id = ? AND phase = ? AND status = ?
    AND (status <> 30 OR cancel_requested = 0)
ORDER BY due_at, id LIMIT ?";

/// By the index that the claim uses.
const OPEN: &str = "-- config_open\nSELECT COUNT(*) FROM task_{shard} WHERE config_id = ?";

pub(crate) async fn cancel_open(
    context: &StoreContext,
    config: ConfigId,
    limit: usize,
    by: &Actor,
    now: Timestamp,
) -> Result<CancelCount> {
    let mut cancelled = 0;
    let mut left = limit;
    // On all: a task that was replayed beside may lie outside the span of its config.
    for on in context.all_shards() {
        for status in STATUSES {
            while left > 0 {
                let step = left.min(ROWS_MAX);
                let done = cancel_some(&on, config, status, step, now).await?;
                context
                    .audit_entries(by, "task.cancel", &done.changed, "with all open tasks of its config", now)
                    .await;
                cancelled += done.ended;
                left -= done.seen.min(left);
                // A row that does not change would be seen for ever.
                if done.seen < step || done.changed.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(CancelCount { cancelled, left: open_count(context, config).await? })
}

struct Batch {
    seen: usize,
    changed: Vec<TaskId>,
    ended: usize,
}

async fn cancel_some(
    on: &ShardDb,
    config: ConfigId,
    status: Status,
    limit: usize,
    now: Timestamp,
) -> Result<Batch> {
    on.transact("cancel_open", move |tx| {
        Box::pin(async move {
            let ids = cancellable(tx, on, config, status, limit).await?;
            let (mut ended, mut flagged) = (Vec::new(), Vec::new());
            for row in lock_tasks(tx, on, &ids).await? {
                match transition(&row, &Event::Cancel, now) {
                    Ok(change) if change.task.is_open() => flagged.push((row.version, change)),
                    Ok(change) => ended.push(change),
                    Err(_) => {}
                }
            }
            let done: Vec<TaskId> = ended
                .iter()
                .chain(flagged.iter().map(|(_, change)| change))
                .map(|change: &Change| change.task.id)
                .collect();
            let ended = save_ended(tx, on, ended).await?.len();
            let rows: Vec<_> = flagged.iter().map(|(version, change)| (*version, &change.task)).collect();
            update_rows(tx, on, &rows).await?;
            let closed: Vec<_> = flagged.iter().filter_map(|(_, change)| change.closed.clone()).collect();
            insert_attempts(tx, on, &closed).await?;
            Ok(Batch { seen: ids.len(), changed: done, ended })
        })
    })
    .await
}

async fn cancellable(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    config: ConfigId,
    status: Status,
    limit: usize,
) -> Result<Vec<TaskId>> {
    let bound = sql_limit(limit);
    let phase = status.phase().map(Phase::code);
    let select = query(&on.sql(CANCELLABLE)).bind(config.get()).bind(phase).bind(status.code()).bind(bound);
    let rows = select.fetch_all(tx.conn()).await?;
    rows.iter().map(|row| Ok(TaskId::new(row.get(0)?))).collect()
}

/// The shards that new tasks of a config are made on.
pub(crate) fn shards_of(context: &StoreContext, config: ConfigId) -> Result<Vec<ShardDb>> {
    let Some(known) = context.config(config).filter(|known| known.spec.span != 0) else {
        return Ok(context.all_shards());
    };
    let first = config_shard(config, context.shards).get();
    let numbers = (0..known.spec.span.min(context.shards)).map(|offset| (first + offset) % context.shards);
    numbers.filter_map(ShardId::new).map(|shard| context.shard(shard)).collect()
}

/// Open tasks of a config on all shards: its span may have been another one before.
pub(crate) async fn open_count(context: &StoreContext, id: ConfigId) -> Result<usize> {
    let shards = context.all_shards();
    let of_source = context.sources().into_iter().map(|(db, _)| {
        let shards: Vec<_> = shards.iter().filter(|shard| shard.db.is(&db)).cloned().collect();
        async move {
            if shards.is_empty() {
                return Ok(0);
            }
            let shards = &shards;
            db.read("open_count", |tx| {
                Box::pin(async move {
                    let mut open: i64 = 0;
                    for shard in shards {
                        let row = query(&shard.sql(OPEN)).bind(id.get()).fetch_one(tx.conn()).await?;
                        open += row.get::<i64>(0)?;
                    }
                    Ok(open)
                })
            })
            .await
        }
    });
    let open: i64 = all_of(of_source).await?.into_iter().sum();
    Ok(usize::try_from(open).unwrap_or(usize::MAX))
}
