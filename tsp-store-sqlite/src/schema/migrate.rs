//! Brings the schema of a store up to this binary's (`migrations/README.md`).

use ring::digest::{SHA256, digest};
use rusqlite::params;
use tsp_core::Timestamp;
use tsp_store::error::{Result, StoreError};

use crate::connection::session::Session;
use crate::connection::statements::statements;

statements! {
    MIGRATION_FIND = "-- migration_find\nSELECT checksum FROM schema_migration WHERE number = ?";

    MIGRATION_INSERT = "-- migration_insert
    INSERT INTO schema_migration (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)";

    MIGRATION_NEWEST = "-- migration_newest\nSELECT max(number) FROM schema_migration";
}

/// Every migration by number, oldest first.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "init", include_str!("../../../migrations/sqlite/0001_init.sql")),
    (2, "config_state", include_str!("../../../migrations/sqlite/0002_config_state.sql")),
    (3, "phase", include_str!("../../../migrations/sqlite/0003_phase.sql")),
];

const TABLE: &str = "-- migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT";

/// Applies what is missing, each migration in a transaction of its own. Two processes may do so at once.
pub(crate) fn migrate(conn: Session<'_>, now: Timestamp) -> Result<()> {
    apply(conn, MIGRATIONS, now)
}

fn apply(conn: Session<'_>, migrations: &[(i64, &str, &str)], now: Timestamp) -> Result<()> {
    let newest = in_transaction(conn, |conn| {
        conn.execute_batch(TABLE)?;
        newest(conn, migrations)
    })?;
    if newest.is_some_and(|newest| newest < last_of(migrations)) {
        tracing::info!(
            from = newest,
            to = last_of(migrations),
            "the database gets a newer schema; with many tasks this takes a while"
        );
    }
    for (number, name, sql) in migrations {
        in_transaction(conn, |conn| apply_one(conn, *number, name, sql, now))?;
    }
    Ok(())
}

fn apply_one(conn: Session<'_>, number: i64, name: &str, sql: &str, now: Timestamp) -> Result<()> {
    let checksum = hex::encode(digest(&SHA256, sql.as_bytes()));
    match conn.prepare(MIGRATION_FIND)?.first([number], |row| row.get::<String>(0))? {
        Some(stored) if stored == checksum => Ok(()),
        Some(_) => Err(StoreError::Unusable(format!(
            "migration {number} (`{name}`) of this database is not the one this binary knows: it was made \
             by another build; use that build, or restore a backup"
        ))),
        None => {
            conn.execute_batch(sql)?;
            conn.prepare(MIGRATION_INSERT)?.execute_one(params![number, name, checksum, now.ms()])
        }
    }
}

fn last_of(migrations: &[(i64, &str, &str)]) -> i64 {
    migrations.last().map_or(0, |migration| migration.0)
}

/// The newest one that was applied, none to a new store. One that this binary does not know is refused.
fn newest(conn: Session<'_>, migrations: &[(i64, &str, &str)]) -> Result<Option<i64>> {
    let newest: Option<i64> = conn.prepare(MIGRATION_NEWEST)?.one([], |row| row.get(0))?;
    let known = last_of(migrations);
    match newest {
        Some(newest) if newest > known => Err(StoreError::Unusable(format!(
            "the database has schema {newest}, this binary knows up to {known}: use the newer binary that \
             upgraded it, or restore a backup from before"
        ))),
        newest => Ok(newest),
    }
}

/// Runs `work` in a transaction of its own, on a connection where none is open.
pub(crate) fn in_transaction<T>(conn: Session<'_>, work: impl FnOnce(Session<'_>) -> Result<T>) -> Result<T> {
    conn.execute_batch("-- begin\nBEGIN IMMEDIATE")?;
    let done = work(conn).and_then(|value| {
        conn.execute_batch("-- commit\nCOMMIT")?;
        Ok(value)
    });
    if done.is_err() && !conn.raw().is_autocommit() {
        conn.execute_batch("-- rollback\nROLLBACK")?;
    }
    done
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tsp_core::task::Status;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    fn refusal(conn: &Connection, migrations: &[(i64, &str, &str)]) -> String {
        apply(Session::new(conn), migrations, NOW).unwrap_err().to_string()
    }

    #[test]
    fn goes_from_empty_to_current_and_runs_once() {
        let conn = Connection::open_in_memory().unwrap();
        migrate(Session::new(&conn), NOW).unwrap();
        migrate(Session::new(&conn), NOW).unwrap();
        let applied: i64 =
            conn.query_row("SELECT count(*) FROM schema_migration", [], |row| row.get(0)).unwrap();
        assert_eq!(applied, i64::try_from(MIGRATIONS.len()).unwrap());
        conn.execute_batch("SELECT id FROM task").unwrap();
    }

    #[test]
    fn rows_of_every_state_get_the_index_of_their_phase() {
        let conn = Connection::open_in_memory().unwrap();
        apply(Session::new(&conn), &MIGRATIONS[..2], NOW).unwrap();
        let open = Status::ALL.into_iter().filter(|status| *status != Status::Ended);
        for (id, status) in (1..).zip(open.clone().chain(open)) {
            let insert = "INSERT INTO task (id, config_id, status, version, due_at, execute_at, first_due_at,
                created_at, attempt, charged, losses, epoch, cancel_requested, origin, sharding_id, sharding_count,
                key_slot) VALUES (?1, 7, ?2, 1, ?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)";
            conn.execute(insert, params![id, status.code()]).unwrap();
        }
        migrate(Session::new(&conn), NOW).unwrap();
        let mut phases = conn.prepare("SELECT status, phase FROM task ORDER BY id").unwrap();
        let phases = phases.query_map([], |row| Ok((row.get(0)?, row.get::<_, u8>(1)?))).unwrap();
        for phase in phases {
            let (status, phase) = phase.unwrap();
            assert_eq!(phase, Status::from_code(status).unwrap().phase().unwrap().code(), "at {status}");
        }
        for (index, phase, rows) in
            [("task_claim", 0, 2), ("task_busy", 1, 4), ("task_paused", 2, 2), ("task_awaiting", 3, 2)]
        {
            let count = format!("SELECT count(*) FROM task INDEXED BY {index} WHERE phase = {phase}");
            assert_eq!(conn.query_row(&count, [], |row| row.get(0)), Ok(rows), "{index}");
        }
    }

    #[test]
    fn numbers_rise_by_one() {
        let numbers: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.0).collect();
        assert!(numbers.iter().copied().eq(1..=i64::try_from(numbers.len()).unwrap()));
    }

    #[test]
    fn refuses_a_newer_schema_and_a_changed_migration() {
        let conn = Connection::open_in_memory().unwrap();
        let two =
            [(1, "a", "CREATE TABLE a (x INTEGER) STRICT"), (2, "b", "CREATE TABLE b (x INTEGER) STRICT")];
        apply(Session::new(&conn), &two, NOW).unwrap();
        let newer = refusal(&conn, &two[..1]);
        assert!(newer.contains("has schema 2") && newer.contains("up to 1"), "{newer}");
        let changed = refusal(&conn, &[(1, "a", "CREATE TABLE a (x TEXT) STRICT"), two[1]]);
        assert!(changed.contains("migration 1"), "{changed}");
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let conn = Connection::open_in_memory().unwrap();
        let bad = [(1, "bad", "CREATE TABLE a (x INTEGER) STRICT; CREATE TABLE a (y INTEGER) STRICT")];
        assert!(apply(Session::new(&conn), &bad, NOW).is_err());
        assert!(conn.is_autocommit());
        assert!(conn.execute_batch("SELECT x FROM a").is_err());
    }
}
