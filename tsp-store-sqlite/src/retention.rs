//! Dropping what nobody needs any more: a reader finds it, and the writer drops it by its keys.

use async_trait::async_trait;
use rusqlite::params;
use tsp_core::{ConfigId, Millis, Timestamp};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::catalog::AUDIT_KEPT;
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::Result;
use tsp_store::fetching::{NODES_KEPT, OCCURRENCES_KEPT, RetentionStore};
use tsp_store::parks;

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

/// Rows dropped in one transaction: others wait behind it.
const DROPPED_PER_COMMAND: usize = 200;

statements! {
    pub(super) HISTORY_NEXT = "-- prune_config_next
    SELECT config_id, ended_at FROM history WHERE config_id > ?1 ORDER BY config_id, ended_at LIMIT 1"
        => "SEARCH history USING COVERING INDEX history_ended (config_id>?)";

    pub(super) HISTORY_OLD = "-- prune_history_find
    SELECT id, ended_at FROM history WHERE config_id = ?1 AND ended_at <= ?2 ORDER BY ended_at LIMIT ?3"
        => "SEARCH history USING COVERING INDEX history_ended (config_id=? AND ended_at<?)";

    /// A task that was replayed since it was found stays.
    HISTORY_DROP = "-- prune_history\nDELETE FROM history WHERE id = ?1 AND ended_at = ?2";

    ATTEMPTS_DROP = "-- prune_attempts\nDELETE FROM attempt WHERE task_id = ?1"
        => "SEARCH attempt USING PRIMARY KEY (task_id=?)";

    ANSWERS_OLD = "-- prune_idempotency_find
    SELECT hash, expires_at FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
        => "SEARCH idempotency USING COVERING INDEX idempotency_expiry (expires_at<?)";

    ANSWERS_DROP = "-- prune_idempotency
    DELETE FROM idempotency WHERE hash = ?1 AND expires_at = ?2"
        => "SEARCH idempotency USING PRIMARY KEY (hash=?)";

    OCCURRENCE_NEXT = "-- prune_occurrence_next
    SELECT config_id, execute_at FROM occurrence WHERE config_id > ?1 ORDER BY config_id, execute_at LIMIT 1"
        => "SEARCH occurrence USING PRIMARY KEY (config_id>?)";

    CURSOR_FIND = "-- prune_cursor\nSELECT next_fire_at FROM cursor WHERE config_id = ?";

    OCCURRENCE_OLD = "-- prune_occurrence_find
    SELECT execute_at, origin FROM occurrence WHERE config_id = ?1 AND execute_at < ?2 ORDER BY execute_at LIMIT ?3"
        => "SEARCH occurrence USING PRIMARY KEY (config_id=? AND execute_at<?)";

    OCCURRENCE_DROP = "-- prune_occurrence
    DELETE FROM occurrence WHERE config_id = ?1 AND execute_at = ?2 AND origin = ?3"
        => "SEARCH occurrence USING PRIMARY KEY (config_id=? AND execute_at=? AND origin=?)";

    PARKS_OLD = "-- prune_parks_find
    SELECT config_id FROM config_state WHERE parked_until < ?1 AND unparked_at < ?1 LIMIT ?2";

    PARKS_DROP = "-- prune_parks
    DELETE FROM config_state WHERE config_id = ?1 AND parked_until < ?2 AND unparked_at < ?2";

    /// Ids rise with time, so both logs are looked at from their old end, as far as they are old.
    AUDIT_OLDEST = "-- prune_audit_find
    SELECT id, at FROM audit WHERE id > 0 ORDER BY id LIMIT ?1"
        => "SEARCH audit USING INTEGER PRIMARY KEY (rowid>?)";

    AUDIT_DROP = "-- prune_audit\nDELETE FROM audit WHERE id = ?1";

    NODE_OLDEST = "-- prune_node_find
    SELECT id, dead_at FROM node WHERE id > 0 ORDER BY id LIMIT ?1";

    NODE_DROP = "-- prune_node\nDELETE FROM node WHERE id = ?1";
}

/// A row that was found by a reader, and what it must still be for the writer to drop it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Victim {
    Ended { id: i64, ended_at: i64 },
    Answer { hash: [u8; 32], expires_at: i64 },
    Occurrence { config: i64, execute_at: i64, origin: i64 },
    Park { config: i64, cutoff: i64 },
    AuditEntry(i64),
    Node(i64),
}

/// Up to which config the tables were looked through. So a call goes on where the one before had enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetentionScan {
    history: i64,
    occurrences: i64,
}

impl RetentionScan {
    const START: Self = Self { history: i64::MIN, occurrences: i64::MIN };

    fn is_at_start(self) -> bool {
        self.history == i64::MIN && self.occurrences == i64::MIN
    }
}

impl Default for RetentionScan {
    fn default() -> Self {
        Self::START
    }
}

/// What one scan found, and how far it came.
#[derive(Debug, Default)]
pub(super) struct ExpiredRows {
    pub(super) victims: Vec<Victim>,
    pub(super) scan: RetentionScan,
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        let (config_cache, scan) = (self.shared.config_cache.clone(), *self.retained_from.lock());
        let found = self
            .read(Command::RetentionFind, move |conn| find(conn, &config_cache, scan, limit, now))
            .await?;
        *self.retained_from.lock() = found.scan;
        for victims in found.victims.chunks(DROPPED_PER_COMMAND) {
            let victims = victims.to_vec();
            self.write(Command::RetentionDrop, victims.len(), move |tx| drop_victims(tx, &victims)).await?;
        }
        Ok(found.victims.len())
    }
}

/// Looks for at most `limit` rows, by a reader: with many configs that takes a while, and nothing waits for it.
pub(super) fn find(
    conn: Session<'_>,
    config_cache: &ConfigCache,
    scan: RetentionScan,
    limit: usize,
    now: Timestamp,
) -> Result<ExpiredRows> {
    let mut found = ExpiredRows { victims: Vec::new(), scan };
    look(conn, config_cache, &mut found, limit, now)?;
    if found.victims.is_empty() && !scan.is_at_start() {
        // It ends where nothing is left from the beginning on.
        found.scan = RetentionScan::START;
        look(conn, config_cache, &mut found, limit, now)?;
    }
    Ok(found)
}

fn look(
    conn: Session<'_>,
    config_cache: &ConfigCache,
    found: &mut ExpiredRows,
    limit: usize,
    now: Timestamp,
) -> Result<()> {
    let ExpiredRows { victims, scan } = found;
    scan.history = find_history(conn, config_cache, scan.history, victims, limit, now)?;
    scan.occurrences = find_occurrences(conn, scan.occurrences, victims, limit, now)?;
    let left = |victims: &Vec<Victim>| sql_limit(limit - victims.len());
    let answers = conn.prepare(ANSWERS_OLD)?.all([now.ms(), left(victims)], |row| {
        Ok(Victim::Answer { hash: row.get(0)?, expires_at: row.get(1)? })
    })?;
    victims.extend(answers);
    let cutoff = now.minus(parks::KEPT).ms();
    let parks = conn
        .prepare(PARKS_OLD)?
        .all([cutoff, left(victims)], |row| Ok(Victim::Park { config: row.get(0)?, cutoff }))?;
    victims.extend(parks);
    let audit = find_old(conn, AUDIT_OLDEST, limit - victims.len(), now.minus(AUDIT_KEPT))?;
    victims.extend(audit.into_iter().map(Victim::AuditEntry));
    let nodes = find_old(conn, NODE_OLDEST, limit - victims.len(), now.minus(NODES_KEPT))?;
    victims.extend(nodes.into_iter().map(Victim::Node));
    Ok(())
}

/// What ended, config after config, each by its own retention.
fn find_history(
    conn: Session<'_>,
    config_cache: &ConfigCache,
    after: i64,
    victims: &mut Vec<Victim>,
    limit: usize,
    now: Timestamp,
) -> Result<i64> {
    find_by_config(conn, HISTORY_NEXT, after, victims, limit, |config, oldest, left| {
        // What a deleted config left behind has nobody who wants it kept.
        let retention =
            config_cache.config(ConfigId::new(config)).map_or(Millis::ZERO, |config| config.spec.retention);
        let cutoff = now.minus(retention).ms();
        if oldest > cutoff {
            return Ok(Vec::new());
        }
        conn.prepare(HISTORY_OLD)?
            .all([config, cutoff, left], |row| Ok(Victim::Ended { id: row.get(0)?, ended_at: row.get(1)? }))
    })
}

/// Only below the cursor, or a slot could be made twice; those of a config that is gone, all.
fn find_occurrences(
    conn: Session<'_>,
    after: i64,
    victims: &mut Vec<Victim>,
    limit: usize,
    now: Timestamp,
) -> Result<i64> {
    find_by_config(conn, OCCURRENCE_NEXT, after, victims, limit, |config, oldest, left| {
        let cursor: Option<Option<i64>> = conn.prepare(CURSOR_FIND)?.first([config], |row| row.get(0))?;
        let cutoff = cursor.map_or(i64::MAX, |next_fire_at| {
            let below = next_fire_at.map_or(now, |at| now.min(Timestamp::from_ms(at)));
            below.minus(OCCURRENCES_KEPT).ms()
        });
        if oldest >= cutoff {
            return Ok(Vec::new());
        }
        conn.prepare(OCCURRENCE_OLD)?.all([config, cutoff, left], |row| {
            Ok(Victim::Occurrence { config, execute_at: row.get(0)?, origin: row.get(1)? })
        })
    })
}

/// Config after config, one seek by `next` for each that has rows: it gives the config and the time of its oldest
/// row. Returns where to go on.
fn find_by_config(
    conn: Session<'_>,
    next: &str,
    mut after: i64,
    victims: &mut Vec<Victim>,
    limit: usize,
    find: impl Fn(i64, i64, i64) -> Result<Vec<Victim>>,
) -> Result<i64> {
    let mut next = conn.prepare(next)?;
    while victims.len() < limit {
        let oldest: Option<(i64, i64)> = next.first([after], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some((config, oldest)) = oldest else { return Ok(i64::MIN) };
        victims.extend(find(config, oldest, sql_limit(limit - victims.len()))?);
        if victims.len() < limit {
            after = config;
        }
    }
    Ok(after)
}

/// From the old end of a table to the first row that is not older than `cutoff`, or has no end.
fn find_old(conn: Session<'_>, oldest: &str, limit: usize, cutoff: Timestamp) -> Result<Vec<i64>> {
    let mut statement = conn.prepare(oldest)?;
    let mut rows = statement.rows([sql_limit(limit)])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<Option<i64>>(1)?.is_none_or(|at| at > cutoff.ms()) {
            break;
        }
        old.push(row.get(0)?);
    }
    Ok(old)
}

/// Drops rows by their keys, and nothing else.
pub(super) fn drop_victims(tx: &mut Tx<'_>, victims: &[Victim]) -> Result<()> {
    for victim in victims {
        match *victim {
            Victim::Ended { id, ended_at } => {
                if tx.conn.prepare(HISTORY_DROP)?.execute([id, ended_at])? == 1 {
                    // Any number of attempts, none for a task that succeeded at the first try.
                    tx.conn.prepare(ATTEMPTS_DROP)?.execute([id])?;
                    tx.sums.dropped += 1;
                }
                continue;
            }
            Victim::Answer { hash, expires_at } => {
                tx.conn.prepare(ANSWERS_DROP)?.execute(params![hash, expires_at])?
            }
            Victim::Occurrence { config, execute_at, origin } => {
                tx.conn.prepare(OCCURRENCE_DROP)?.execute([config, execute_at, origin])?
            }
            Victim::Park { config, cutoff } => tx.conn.prepare(PARKS_DROP)?.execute([config, cutoff])?,
            Victim::AuditEntry(id) => tx.conn.prepare(AUDIT_DROP)?.execute([id])?,
            Victim::Node(id) => tx.conn.prepare(NODE_DROP)?.execute([id])?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::schema::migrate::migrate;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    #[test]
    fn old_processes_go_and_a_living_one_stops_it() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(Session::new(&conn), NOW).unwrap();
        let cutoff = NOW.minus(NODES_KEPT);
        for dead_at in [Some(cutoff.ms() - 1), Some(cutoff.ms()), Some(cutoff.ms() + 1), None, Some(0)] {
            conn.execute("INSERT INTO node (name, started_at, dead_at) VALUES ('n', 0, ?)", [dead_at])
                .unwrap();
        }
        let old = |limit| find_old(Session::new(&conn), NODE_OLDEST, limit, cutoff).unwrap();
        assert_eq!((old(0), old(1), old(9)), (vec![], vec![1], vec![1, 2]));
    }
}
