//! Dropping what nobody needs any more, in bounded steps.

use rusqlite::{Connection, params};
use tsp_core::{ConfigId, Millis, Timestamp};

use crate::error::{Result, StoreError};

use super::row::{all, first};
use super::tx::Tx;

/// Occurrences are kept this far below their cursor, for one that is computed anew from an earlier time.
const OCCURRENCES_KEPT: Millis = Millis::from_days(1);

pub(super) const HISTORY_NEXT: &str = "-- prune_config_next
SELECT config_id, ended_at FROM history WHERE config_id > ?1 ORDER BY config_id, ended_at LIMIT 1";

pub(super) const HISTORY_OLD: &str = "-- prune_history_find
SELECT id FROM history WHERE config_id = ?1 AND ended_at <= ?2 ORDER BY ended_at LIMIT ?3";

const IDEMPOTENCY_OLD: &str = "-- prune_idempotency
DELETE FROM idempotency WHERE hash IN (SELECT hash FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)";

const OCCURRENCE_NEXT: &str = "-- prune_occurrence_next
SELECT config_id FROM occurrence WHERE config_id > ?1 ORDER BY config_id LIMIT 1";

const OCCURRENCE_OLD: &str = "-- prune_occurrence
DELETE FROM occurrence WHERE (config_id, execute_at, origin) IN (
    SELECT config_id, execute_at, origin FROM occurrence
    WHERE config_id = ?1 AND execute_at < ?2 LIMIT ?3)";

/// Drops at most `limit` rows; returns how many.
pub(super) fn prune(tx: &mut Tx<'_>, limit: usize, now: Timestamp) -> Result<usize> {
    let mut pruned = 0;
    pruned += prune_history(tx, limit, now)?;
    pruned += prune_idempotency(tx.conn, limit - pruned, now)?;
    pruned += prune_occurrences(tx.conn, limit - pruned, now)?;
    Ok(pruned)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Config after config, each by its own retention, one seek for each that has rows.
fn prune_history(tx: &mut Tx<'_>, limit: usize, now: Timestamp) -> Result<usize> {
    let mut pruned = 0;
    let mut after = i64::MIN;
    while pruned < limit {
        let next = first(tx.conn.prepare_cached(HISTORY_NEXT)?.query([after])?, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        let Some((config, oldest)) = next else { break };
        after = config;
        // What a deleted config left behind has nobody who wants it kept.
        let retention = tx.config(ConfigId::new(config)).map_or(Millis::ZERO, |config| config.spec.retention);
        let line = now.minus(retention);
        if oldest <= line.ms() {
            pruned += prune_config(tx, config, line, limit - pruned)?;
        }
    }
    Ok(pruned)
}

fn prune_config(tx: &mut Tx<'_>, config: i64, line: Timestamp, limit: usize) -> Result<usize> {
    let ids: Vec<i64> = all(
        tx.conn.prepare_cached(HISTORY_OLD)?.query(params![config, line.ms(), sql_limit(limit)])?,
        |row| Ok(row.get(0)?),
    )?;
    let mut history = tx.conn.prepare_cached("-- prune_history\nDELETE FROM history WHERE id = ?")?;
    let mut attempts = tx.conn.prepare_cached("-- prune_attempts\nDELETE FROM attempt WHERE task_id = ?")?;
    for id in &ids {
        // Any number of attempts, none for a task that succeeded at the first try.
        attempts.execute([id])?;
        if history.execute([id])? != 1 {
            return Err(StoreError::Internal(format!("`prune_history` did not find task {id}")));
        }
    }
    tx.sums.dropped += sql_limit(ids.len());
    Ok(ids.len())
}

fn prune_idempotency(conn: &Connection, limit: usize, now: Timestamp) -> Result<usize> {
    Ok(conn.prepare_cached(IDEMPOTENCY_OLD)?.execute([now.ms(), sql_limit(limit)])?)
}

/// Only below the cursor, or a slot could be made twice; those of a config that is gone, all.
fn prune_occurrences(conn: &Connection, limit: usize, now: Timestamp) -> Result<usize> {
    let mut pruned = 0;
    let mut after = i64::MIN;
    while pruned < limit {
        let next: Option<i64> =
            first(conn.prepare_cached(OCCURRENCE_NEXT)?.query([after])?, |row| Ok(row.get(0)?))?;
        let Some(config) = next else { break };
        after = config;
        let cursor: Option<Option<i64>> = first(
            conn.prepare_cached("-- prune_cursor\nSELECT next_fire_at FROM cursor WHERE config_id = ?")?
                .query([config])?,
            |row| Ok(row.get(0)?),
        )?;
        let line = match cursor {
            None => i64::MAX,
            Some(next_fire_at) => {
                let below = next_fire_at.map_or(now, |at| now.min(Timestamp::from_ms(at)));
                below.minus(OCCURRENCES_KEPT).ms()
            }
        };
        pruned +=
            conn.prepare_cached(OCCURRENCE_OLD)?.execute(params![config, line, sql_limit(limit - pruned)])?;
    }
    Ok(pruned)
}

/// For the golden plans.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 3] = [IDEMPOTENCY_OLD, OCCURRENCE_NEXT, OCCURRENCE_OLD];
