//! Dropping what nobody needs any more, in bounded steps, and whole days where that is possible.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tsp_core::{ConfigId, Millis, ShardId, Timestamp};
use tsp_store::backend::row::read_cursor;
use tsp_store::backend::row_count::{exactly, sql_limit};
use tsp_store::catalog::AUDIT_KEPT;
use tsp_store::error::Result;
use tsp_store::fetching::{Cursor, NODES_KEPT, OCCURRENCES_KEPT};
use tsp_store::parks;

use crate::catalog::follow;
use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::{ROWS_MAX, StatementText};
use crate::connection::tx::Tx;
use crate::context::StoreContext;
use crate::fetching::fire::CURSOR_ALL;
use crate::fetching::group_rows::GroupRows;
use crate::retention::whole_days::{self, RetentionScan, longest_retention};
use crate::schema::day_partitions;
use crate::tasks::rows::ATTEMPTS_DROP;

/// A config that keeps its history as long as any does, and at least this long, keeps it to the end of a
/// day: the day is dropped whole.
const WHOLE_DAYS_FROM: Millis = Millis::from_days(1);

/// Partitions are looked at this often.
const LOOK_EVERY: Millis = Millis::from_hours(1);

/// A loose index scan: the oldest end of each config that has rows.
pub(crate) const HISTORY_FIRSTS: &str = "-- prune_history_firsts
SELECT config_id, MIN(ended_at) FROM history_{shard} FORCE INDEX (ended) GROUP BY config_id";

pub(crate) const HISTORY_OLD: &str = "-- prune_history_find
SELECT id, ended_at FROM history_{shard} FORCE INDEX (ended)
WHERE config_id = ? AND ended_at <= ? ORDER BY ended_at LIMIT ? FOR UPDATE";

pub(crate) const HISTORY_DROP: &str = "-- prune_history
DELETE FROM history_{shard} WHERE (id, ended_at) IN ({pairs})";

pub(crate) const IDEMPOTENCY_OLD: &str = "-- prune_idempotency
DELETE FROM idempotency_{shard} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";

pub(crate) const OCCURRENCE_FIRSTS: &str = "-- prune_occurrence_firsts
SELECT config_id, MIN(execute_at) FROM occurrence_{shard} GROUP BY config_id";

pub(crate) const OCCURRENCE_OLD: &str = "-- prune_occurrence
DELETE FROM occurrence_{shard} WHERE config_id = ? AND execute_at < ? ORDER BY execute_at LIMIT ?";

pub(crate) const PARKS_OLD: &str = "-- prune_parks
DELETE FROM config_state_{shard} WHERE parked_until < ? AND unparked_at < ? ORDER BY parked_until LIMIT ?";

const CURSOR_DROP: &str = "-- prune_cursor\nDELETE FROM cursor_{shard} WHERE config_id = ?";

const CONFIGS_THERE: &str = "-- prune_configs\nSELECT id FROM config WHERE id IN ({list})";

/// Ids rise with time, so the log is looked at from its old end, as far as it is old.
const AUDIT_OLDEST: &str = "-- prune_audit_find\nSELECT id, at FROM audit ORDER BY id LIMIT ?";
const AUDIT_OLD: &str = "-- prune_audit\nDELETE FROM audit WHERE id <= ?";

const NODE_OLD: &str = "-- prune_node\nDELETE FROM node WHERE dead_at <= ? ORDER BY dead_at LIMIT ?";

const KEPT_OLD: &str = "-- prune_kept
DELETE FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";

/// Drops at most `limit` rows, or a day; returns how many. A day counts as `limit` at most. Only the owner
/// of the default group drops anything of its shard; that of shard 0 also what is in meta.
pub(crate) async fn apply_retention(
    of: &GroupRows,
    scan: &Mutex<RetentionScan>,
    limit: usize,
    now: Timestamp,
) -> Result<usize> {
    if !of.is_default() || limit == 0 {
        return Ok(0);
    }
    // With retentions and configs as they are now: what is of a config that this process does not know
    // yet must not go.
    follow::follow(&of.context).await?;
    let on = &of.shard()?;
    let mut removed = 0;
    if scan.lock().look_at <= now {
        day_partitions::keep_ahead(on, now).await?;
        removed += whole_days::drop_days(of, on, limit, now).await?;
        // Not again in a while, unless there was something to do.
        if removed == 0 {
            scan.lock().look_at = now.plus(LOOK_EVERY);
        }
    }
    if removed < limit {
        removed += drop_old_history(of, on, limit - removed, now).await?;
    }
    if removed < limit {
        removed += whole_days::drop_old_attempts(of, scan, on, limit - removed, now).await?;
    }
    if removed < limit {
        removed += delete_old(on, IDEMPOTENCY_OLD, &[now.ms()], limit - removed).await?;
    }
    if removed < limit {
        removed += drop_old_occurrences(of, on, limit - removed, now).await?;
    }
    if removed < limit {
        let cutoff = now.minus(parks::KEPT).ms();
        removed += delete_old(on, PARKS_OLD, &[cutoff, cutoff], limit - removed).await?;
    }
    if removed < limit && on.shard == ShardId::default() {
        removed += apply_meta_retention(&of.context, limit - removed, now).await?;
    }
    Ok(removed)
}

/// What `template` says of each config that has rows.
async fn firsts(on: &ShardDb, template: &'static str) -> Result<BTreeMap<ConfigId, Timestamp>> {
    let rows = on
        .read("prune_firsts", move |tx| {
            Box::pin(async move { query(&on.sql(template)).fetch_all(tx.conn()).await })
        })
        .await?;
    let first = |row: &Row| Ok((ConfigId::new(row.get(0)?), Timestamp::from_ms(row.get(1)?)));
    rows.iter().map(first).collect()
}

/// Those of `configs` that are deleted. Asked after their rows were seen, because a config is made before
/// its rows: one that is not there then is gone.
async fn gone(context: &StoreContext, configs: impl Iterator<Item = ConfigId>) -> Result<BTreeSet<ConfigId>> {
    let mut gone: BTreeSet<ConfigId> = configs.filter(|config| context.config(*config).is_none()).collect();
    let unknown: Vec<i64> = gone.iter().map(|config| config.get()).collect();
    for chunk in unknown.chunks(ROWS_MAX) {
        let there = context
            .meta
            .read("prune_configs", move |tx| {
                Box::pin(async move {
                    let sql = tx.conn().sql(CONFIGS_THERE);
                    Values::of_ids(chunk.iter().copied()).ask(&sql)?.fetch_all(tx.conn()).await
                })
            })
            .await?;
        for row in &there {
            gone.remove(&ConfigId::new(row.get(0)?));
        }
    }
    Ok(gone)
}

/// Config after config, each by its own retention. Those that may keep whole days wait for them to be
/// dropped.
async fn drop_old_history(of: &GroupRows, on: &ShardDb, limit: usize, now: Timestamp) -> Result<usize> {
    let firsts = firsts(on, HISTORY_FIRSTS).await?;
    let gone = gone(&of.context, firsts.keys().copied()).await?;
    let longest = longest_retention(&of.context);
    let mut removed = 0;
    for (config, oldest) in firsts {
        let retention = match of.context.config(config) {
            Some(config) if config.spec.retention == longest && longest >= WHOLE_DAYS_FROM => continue,
            Some(config) => config.spec.retention,
            // What a deleted config left behind has nobody who wants it kept.
            None if gone.contains(&config) => Millis::ZERO,
            None => continue,
        };
        let cutoff = now.minus(retention);
        while oldest <= cutoff && removed < limit {
            let step = (limit - removed).min(ROWS_MAX);
            let dropped = drop_history_of(on, config, cutoff, step).await?;
            removed += dropped;
            if dropped < step {
                break;
            }
        }
    }
    Ok(removed)
}

/// At most [`ROWS_MAX`] rows, with their attempts.
async fn drop_history_of(on: &ShardDb, config: ConfigId, cutoff: Timestamp, limit: usize) -> Result<usize> {
    on.transact("prune_history", move |tx| {
        Box::pin(async move {
            let find =
                query(&on.sql(HISTORY_OLD)).bind(config.get()).bind(cutoff.ms()).bind(sql_limit(limit));
            let rows = find.fetch_all(tx.conn()).await?;
            let old =
                rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<Vec<(i64, i64)>>>()?;
            drop_history(tx, on, &old).await?;
            Ok(old.len())
        })
    })
    .await
}

async fn drop_history(tx: &mut Tx<'_>, on: &ShardDb, old: &[(i64, i64)]) -> Result<()> {
    if old.is_empty() {
        return Ok(());
    }
    let attempts = Values::of_ids(old.iter().map(|(id, _)| *id)).ask(&on.sql(ATTEMPTS_DROP))?;
    let rows =
        Values::of_ids(old.iter().flat_map(|row| <[i64; 2]>::from(*row))).ask(&on.sql(HISTORY_DROP))?;
    let dropped = tx.conn().ask_all("prune_history", &[attempts, rows]).await?;
    exactly(old.len(), dropped[1].matched, "prune_history")?;
    tx.sums.dropped += sql_limit(old.len());
    Ok(())
}

/// One bounded statement over rows that are older than the values say.
async fn delete_old(on: &ShardDb, template: &'static str, values: &[i64], limit: usize) -> Result<usize> {
    let sql = &on.sql(template);
    on.transact("prune", |tx| Box::pin(delete(tx, sql, values, limit))).await
}

async fn delete(tx: &mut Tx<'_>, sql: &StatementText, values: &[i64], limit: usize) -> Result<usize> {
    let values = Values::of_ids(values.iter().copied().chain([sql_limit(limit)]));
    let deleted = values.ask(sql)?.execute(tx.conn()).await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

/// Occurrences only below the cursor, or a slot could be made twice; those of a config that is gone all, and
/// its cursor.
async fn drop_old_occurrences(of: &GroupRows, on: &ShardDb, limit: usize, now: Timestamp) -> Result<usize> {
    let firsts = firsts(on, OCCURRENCE_FIRSTS).await?;
    let cursors = stored_cursors(on).await?;
    let gone = gone(&of.context, firsts.keys().chain(cursors.keys()).copied()).await?;
    let mut removed = 0;
    for (config, first) in &firsts {
        let cutoff = match cursors.get(config) {
            _ if gone.contains(config) => Timestamp::MAX,
            None => continue,
            Some(cursor) => cursor.next_fire_at.map_or(now, |at| now.min(at)).minus(OCCURRENCES_KEPT),
        };
        if *first < cutoff && removed < limit {
            removed += delete_old(on, OCCURRENCE_OLD, &[config.get(), cutoff.ms()], limit - removed).await?;
        }
    }
    for config in gone.iter().filter(|config| cursors.contains_key(config)) {
        if removed < limit {
            removed += drop_cursor(on, *config).await?;
        }
    }
    Ok(removed)
}

async fn stored_cursors(on: &ShardDb) -> Result<BTreeMap<ConfigId, Cursor>> {
    let rows = on
        .read("prune_cursors", move |tx| {
            Box::pin(async move { query(&on.sql(CURSOR_ALL)).fetch_all(tx.conn()).await })
        })
        .await?;
    rows.iter().map(|row| read_cursor(row).map(|cursor| (cursor.config, cursor))).collect()
}

async fn drop_cursor(on: &ShardDb, config: ConfigId) -> Result<usize> {
    let dropped = on
        .transact("prune_cursor", move |tx| {
            Box::pin(async move { query(&on.sql(CURSOR_DROP)).bind(config.get()).execute(tx.conn()).await })
        })
        .await?;
    Ok(usize::from(dropped > 0))
}

/// What is in the meta database.
async fn apply_meta_retention(context: &StoreContext, limit: usize, now: Timestamp) -> Result<usize> {
    let mut removed = drop_old_audit(context, limit, now.minus(AUDIT_KEPT)).await?;
    for (template, cutoff) in [(NODE_OLD, now.minus(NODES_KEPT)), (KEPT_OLD, now)] {
        if removed < limit {
            let (sql, cutoff, limit) = (&context.meta.sql(template), &[cutoff.ms()], limit - removed);
            let work = context.meta.transact("prune_meta", |tx| Box::pin(delete(tx, sql, cutoff, limit)));
            removed += work.await?;
        }
    }
    Ok(removed)
}

async fn drop_old_audit(context: &StoreContext, limit: usize, cutoff: Timestamp) -> Result<usize> {
    let deleted = context
        .meta
        .transact("prune_audit", move |tx| {
            Box::pin(async move {
                let sql = tx.conn().sql(AUDIT_OLDEST);
                let rows = query(&sql).bind(sql_limit(limit)).fetch_all(tx.conn()).await?;
                let mut last: Option<i64> = None;
                for row in &rows {
                    if row.get::<i64>(1)? > cutoff.ms() {
                        break;
                    }
                    last = Some(row.get(0)?);
                }
                let Some(last) = last else { return Ok(0) };
                let sql = tx.conn().sql(AUDIT_OLD);
                query(&sql).bind(last).execute(tx.conn()).await
            })
        })
        .await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}
