//! Dropping what nobody needs any more, in bounded steps.

use rusqlite::{Connection, params};
use tsp_core::{ConfigId, Millis, Timestamp};

use crate::catalog::AUDIT_KEPT;
use crate::error::{Result, StoreError};

use super::row::{all, first};
use super::tx::Tx;

/// Occurrences are kept this far below their cursor, for one that is computed anew from an earlier time.
const OCCURRENCES_KEPT: Millis = Millis::from_days(1);

/// Rows of processes that are gone.
const NODES_KEPT: Millis = Millis::from_days(30);

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

/// Ids rise with time, so both logs are looked at from their old end, as far as they are old.
const AUDIT_OLDEST: &str = "-- prune_audit_find
SELECT id, at FROM audit WHERE id > 0 ORDER BY id LIMIT ?1";

const AUDIT_OLD: &str = "-- prune_audit
DELETE FROM audit WHERE id <= ?1";

const NODE_OLDEST: &str = "-- prune_node_find
SELECT id, dead_at FROM node WHERE id > 0 ORDER BY id LIMIT ?1";

const NODE_OLD: &str = "-- prune_node
DELETE FROM node WHERE id <= ?1";

/// Drops at most `limit` rows; returns how many.
pub(super) fn prune(tx: &mut Tx<'_>, limit: usize, now: Timestamp) -> Result<usize> {
    let mut pruned = 0;
    pruned += prune_history(tx, limit, now)?;
    pruned += prune_idempotency(tx.conn, limit - pruned, now)?;
    pruned += prune_occurrences(tx.conn, limit - pruned, now)?;
    let logs = [(AUDIT_OLDEST, AUDIT_OLD, AUDIT_KEPT), (NODE_OLDEST, NODE_OLD, NODES_KEPT)];
    for (oldest, old, kept) in logs {
        pruned += prune_log(tx.conn, oldest, old, limit - pruned, now.minus(kept))?;
    }
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

/// From the old end of a table to the first row that is not older than `line`, or has no end.
fn prune_log(conn: &Connection, oldest: &str, old: &str, limit: usize, line: Timestamp) -> Result<usize> {
    let mut statement = conn.prepare_cached(oldest)?;
    let mut rows = statement.query([sql_limit(limit)])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, Option<i64>>(1)?.is_none_or(|at| at > line.ms()) {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
    }
    Ok(last.map_or(Ok(0), |last| conn.prepare_cached(old)?.execute([last]))?)
}

/// For the golden plans.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 7] =
    [IDEMPOTENCY_OLD, OCCURRENCE_NEXT, OCCURRENCE_OLD, AUDIT_OLDEST, AUDIT_OLD, NODE_OLDEST, NODE_OLD];

#[cfg(test)]
mod tests {
    use super::super::migrate::migrate;
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    #[test]
    fn old_processes_go_and_a_living_one_stops_it() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(&conn, NOW).unwrap();
        let line = NOW.minus(NODES_KEPT);
        for dead_at in [Some(line.ms() - 1), Some(line.ms()), Some(line.ms() + 1), None, Some(0)] {
            conn.execute("INSERT INTO node (name, started_at, dead_at) VALUES ('n', 0, ?)", [dead_at])
                .unwrap();
        }
        let left = || conn.query_row("SELECT min(id) FROM node", [], |row| row.get::<_, i64>(0)).unwrap();
        let prune = |limit| prune_log(&conn, NODE_OLDEST, NODE_OLD, limit, line).unwrap();
        assert_eq!((prune(0), left()), (0, 1));
        assert_eq!((prune(1), left()), (1, 2));
        assert_eq!((prune(9), left()), (1, 3));
        assert_eq!((prune(9), left()), (0, 3));
    }
}
