//! Whole days that nobody needs any more, and old attempts of tasks that are gone.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tsp_core::{Millis, NodeId, Timestamp};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::session::{Session, query};
use crate::connection::statement_templates::ROWS_MAX;
use crate::context::StoreContext;
use crate::fetching::group_rows::GroupRows;
use crate::membership::nodes::dead_nodes;
use crate::schema::day_partitions::{DailyTable, DayPartition, account, begin_of, days, drop_day};
use crate::tasks::rows::drop_attempts;

/// Old attempts are looked through this often, and so many pages at a time.
const SCAN_EVERY: Millis = Millis::from_hours(1);
const PAGES: usize = 20;

const DAY_COUNT: &str = "-- day_count
SELECT COUNT(*) FROM history_{shard} WHERE ended_at >= ? AND ended_at < ?";

const DAY_ATTEMPT: &str = "-- day_attempt
SELECT 1 FROM attempt_{shard} WHERE started_at >= ? AND started_at < ? LIMIT 1";

const DAY_COUNTED: &str = "-- day_counted
INSERT INTO balance_{shard} (node, accepted, ended, dropped) VALUES (?, 0, 0, ?)
ON DUPLICATE KEY UPDATE dropped = ?";

const BALANCE_NODES: &str = "-- balance_nodes\nSELECT node FROM balance_{shard}";

const BALANCE_LOCK: &str = "-- balance_lock
SELECT accepted, ended, dropped FROM balance_{shard} WHERE node = ? FOR UPDATE";

const BALANCE_DROP: &str = "-- balance_drop\nDELETE FROM balance_{shard} WHERE node = ?";

const BALANCE_FOLD: &str = "-- balance_fold
INSERT INTO balance_{shard} (node, accepted, ended, dropped) VALUES (?, ?, ?, ?)
ON DUPLICATE KEY UPDATE accepted = accepted + ?, ended = ended + ?, dropped = dropped + ?";

/// By started_at, so that only old partitions are read; by task, so that there is a bookmark.
pub(crate) const ATTEMPTS_OLD: &str = "-- attempts_old
SELECT DISTINCT task_id FROM attempt_{shard} WHERE task_id > ? AND started_at < ? ORDER BY task_id LIMIT ?";

/// In one statement, which sees one moment: a task that moves from one table to the other is in one of them.
pub(crate) const TASKS_THERE: &str = "-- tasks_there
SELECT id FROM task_{shard} WHERE id IN ({list})
UNION ALL
SELECT id FROM history_{shard} WHERE id IN ({list})";

/// Before any time that is looked at.
const BEGINNING_OF_TIME: Timestamp = Timestamp::from_ms(i64::MIN);

/// How far retention is, so that it is not begun again with every call.
#[derive(Debug)]
pub(crate) struct RetentionScan {
    /// When partitions are looked at again.
    pub(crate) look_at: Timestamp,
    /// The last task whose old attempts were looked at.
    pub(crate) after: i64,
    /// When old attempts are looked at again.
    pub(crate) again_at: Timestamp,
}

impl Default for RetentionScan {
    fn default() -> Self {
        Self { look_at: BEGINNING_OF_TIME, after: i64::MIN, again_at: BEGINNING_OF_TIME }
    }
}

/// How long the config that keeps its history longest does.
pub(crate) fn longest_retention(context: &StoreContext) -> Millis {
    context
        .config_cache
        .all_configs()
        .iter()
        .map(|config| config.spec.retention)
        .max()
        .unwrap_or(Millis::ZERO)
}

/// Whether a day that ended then is past `retention`.
pub(crate) fn is_past(end: Timestamp, retention: Millis, now: Timestamp) -> bool {
    end <= now.minus(retention)
}

/// Drops a day of history when every config's retention is past, and of attempts when it is empty.
pub(crate) async fn drop_days(of: &GroupRows, on: &ShardDb, limit: usize, now: Timestamp) -> Result<usize> {
    let retention = longest_retention(&of.context);
    let mut conn = on.conn().await?;
    let known = days(&mut conn, on, DailyTable::History).await?;
    let mut removed = 0;
    for day in known.iter().filter(|day| is_past(day.end, retention, now)) {
        if removed >= limit {
            return Ok(limit);
        }
        removed += drop_history_day(&mut conn, on, &known, day).await?;
    }
    drop_empty_attempts(&mut conn, on, retention, now).await?;
    let known = days(&mut conn, on, DailyTable::History).await?;
    drop(conn);
    fold(of, on, &known).await?;
    Ok(removed.min(limit))
}

/// The rows are counted into an account of the day, which is written again if the drop has to be tried
/// again, and joins the others once the day is gone.
async fn drop_history_day(
    conn: &mut Session,
    on: &ShardDb,
    known: &[DayPartition],
    day: &DayPartition,
) -> Result<usize> {
    let count = query(&on.sql(DAY_COUNT)).bind(begin_of(known, day).ms()).bind(day.end.ms());
    let rows: i64 = count.fetch_one(conn).await?.get(0)?;
    if rows > 0 {
        query(&on.sql(DAY_COUNTED)).bind(account(day)).bind(rows).bind(rows).execute(conn).await?;
    }
    if let Err(error) = drop_day(conn, on, DailyTable::History, day).await {
        query(&on.sql(BALANCE_DROP)).bind(account(day)).execute(conn).await?;
        return Err(error);
    }
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

async fn drop_empty_attempts(
    conn: &mut Session,
    on: &ShardDb,
    retention: Millis,
    now: Timestamp,
) -> Result<()> {
    let known = days(conn, on, DailyTable::Attempt).await?;
    for day in known.iter().filter(|day| is_past(day.end, retention, now)) {
        let find = query(&on.sql(DAY_ATTEMPT)).bind(begin_of(&known, day).ms()).bind(day.end.ms());
        if find.fetch_optional(conn).await?.is_none() {
            drop_day(conn, on, DailyTable::Attempt, day).await?;
        }
    }
    Ok(())
}

/// The sums of processes that are gone, and of days that were dropped, join those of this process.
async fn fold(of: &GroupRows, on: &ShardDb, known: &[DayPartition]) -> Result<()> {
    let own = of.context.own.node.load(std::sync::atomic::Ordering::Relaxed);
    let rows = on
        .read("balance_nodes", move |tx| {
            Box::pin(async move { query(&on.sql(BALANCE_NODES)).fetch_all(tx.conn()).await })
        })
        .await?;
    let standing: BTreeSet<i64> = known.iter().map(account).collect();
    let mut nodes = Vec::new();
    let mut gone = Vec::new();
    for row in &rows {
        let node: i64 = row.get(0)?;
        if node > 0 && node != own {
            nodes.push(NodeId::new(node));
        } else if node < 0 && !standing.contains(&node) {
            gone.push(node);
        }
    }
    gone.extend(dead_nodes(&of.context, &nodes).await?.into_iter().map(NodeId::get));
    for node in gone {
        on.db
            .transact("balance_fold", move |tx| {
                Box::pin(async move {
                    let lock = query(&on.sql(BALANCE_LOCK)).bind(node);
                    let Some(row) = lock.fetch_optional(tx.conn()).await? else { return Ok(()) };
                    let sums: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
                    query(&on.sql(BALANCE_DROP)).bind(node).execute(tx.conn()).await?;
                    let mut values = Values::default();
                    values.put(own);
                    for sum in sums.iter().chain(&sums) {
                        values.put(*sum);
                    }
                    values.ask(&on.sql(BALANCE_FOLD))?.execute(tx.conn()).await?;
                    Ok(())
                })
            })
            .await?;
    }
    Ok(())
}

/// Old attempts whose task is neither open nor in the history: it went with its day. Those of a task that
/// lives longer than its attempts' day stay. Returns how many tasks lost theirs.
pub(crate) async fn drop_old_attempts(
    of: &GroupRows,
    scan: &Mutex<RetentionScan>,
    on: &ShardDb,
    limit: usize,
    now: Timestamp,
) -> Result<usize> {
    if scan.lock().again_at > now {
        return Ok(0);
    }
    let retention = longest_retention(&of.context);
    let known = {
        let mut conn = on.conn().await?;
        days(&mut conn, on, DailyTable::Attempt).await?
    };
    let end = known.iter().map(|day| day.end).filter(|end| is_past(*end, retention, now)).max();
    let mut removed = 0;
    for _ in 0..PAGES {
        let Some(end) = end else { break };
        if removed >= limit {
            return Ok(removed);
        }
        let after = scan.lock().after;
        let page = page(on, after, end, limit - removed).await?;
        let Some(last) = page.last() else { break };
        removed += drop_orphans(on, &page).await?;
        scan.lock().after = *last;
    }
    let mut scan = scan.lock();
    scan.after = i64::MIN;
    scan.again_at = now.plus(SCAN_EVERY);
    Ok(removed)
}

async fn page(on: &ShardDb, after: i64, end: Timestamp, limit: usize) -> Result<Vec<i64>> {
    let rows = on
        .read("attempts_old", move |tx| {
            Box::pin(async move {
                let limit = sql_limit(limit.min(ROWS_MAX));
                let find = query(&on.sql(ATTEMPTS_OLD)).bind(after).bind(end.ms()).bind(limit);
                find.fetch_all(tx.conn()).await
            })
        })
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn drop_orphans(on: &ShardDb, tasks: &[i64]) -> Result<usize> {
    on.transact("prune_attempts", move |tx| {
        Box::pin(async move {
            let both = tasks.iter().chain(tasks).copied();
            let rows = Values::of_ids(both).ask(&on.sql(TASKS_THERE))?.fetch_all(tx.conn()).await?;
            let there: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_>>()?;
            let orphans: Vec<i64> = tasks.iter().copied().filter(|task| !there.contains(task)).collect();
            drop_attempts(tx, on, &orphans).await?;
            Ok(orphans.len())
        })
    })
    .await
}
