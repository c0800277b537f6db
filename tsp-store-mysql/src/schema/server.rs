//! What a database server must be like: looked at by `tsp migrate`, at each start, and by `tsp doctor`.
use sqlx::mysql::MySqlConnection;
use tsp_core::Timestamp;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::row::Row;
use crate::schema::problem::Problem;

/// Whether a commit is on the disk when it is answered.
pub(crate) const SYNCS: &str = "-- syncs
SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED), CAST(@@sync_binlog AS SIGNED)";

/// 2038-01-19T03:14:07Z, the last second that fits 31 bits; two years before it is time to say so.
const LAST_SECOND: Timestamp = Timestamp::from_ms(2_147_483_647_000);
const SAID_FROM: Timestamp = Timestamp::from_ms(LAST_SECOND.ms() - 2 * 365 * 86_400_000);

/// How a server may lose commits that it has answered, from its answer to [`SYNCS`]; `None`: it does not.
pub(crate) fn unsynced(row: &Row) -> Result<Option<String>> {
    Ok(lax(row.get(0)?, row.get::<i64>(1)? != 0, row.get(2)?))
}

fn lax(flush_log: i64, log_bin: bool, sync_binlog: i64) -> Option<String> {
    let mut lax = Vec::new();
    if flush_log != 1 {
        lax.push(format!("innodb_flush_log_at_trx_commit is {flush_log}"));
    }
    // With a binary log recovery keeps what stands there, and drops the rest.
    if log_bin && sync_binlog != 1 {
        lax.push(format!("sync_binlog is {sync_binlog}"));
    }
    (!lax.is_empty()).then(|| {
        format!(
            "its server answers commits before they are on its disk ({}), so a power loss takes accepted tasks: \
             set it to 1, or `store.allow_unsynced_commits = true` where that may be",
            lax.join(", ")
        )
    })
}

/// # Errors
/// [`StoreError::Unusable`] for a server that may lose commits.
pub(crate) async fn refuse_unsynced(conn: &mut MySqlConnection, database: &str) -> Result<()> {
    let row = sqlx::query(SYNCS).fetch_one(conn).await.map_err(store_error)?;
    match unsynced(&Row(row))? {
        Some(why) => Err(StoreError::Unusable(format!("database `{database}`: {why}"))),
        None => Ok(()),
    }
}

/// MariaDB 10.6 and MySQL 8.0 are the oldest that the statements are written for.
pub(crate) fn check_version(database: &str, version: &str) -> Result<(), Problem> {
    let least = if is_mariadb(version) { (10, 6) } else { (8, 0) };
    if numbers(version) >= least {
        return Ok(());
    }
    Err(Problem::of_server(format!(
        "the server of database `{database}` is {version}: MariaDB 10.6, MySQL 8.0, or a later one is needed"
    )))
}

/// What will be wrong with a server of this version soon.
pub(crate) fn ends(version: &str, now: Timestamp) -> Option<String> {
    (is_mariadb(version) && numbers(version) < (11, 5) && now >= SAID_FROM).then(|| {
        format!("its server, {version}, ends itself at {LAST_SECOND} and does not start after it: upgrade to MariaDB 11.5")
    })
}

fn is_mariadb(version: &str) -> bool {
    version.contains("MariaDB")
}

fn numbers(version: &str) -> (u32, u32) {
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for good in ["10.11.19-MariaDB-0+deb12u1", "10.6.0-MariaDB", "11.4.2-MariaDB", "8.0.36", "8.4.1"] {
            check_version("meta", good).unwrap();
        }
        for old in ["10.5.9-MariaDB", "5.7.44", "5.5.5"] {
            assert!(check_version("meta", old).is_err(), "{old}");
        }
    }

    #[test]
    fn a_server_that_does_not_sync_says_by_what() {
        assert_eq!(lax(1, false, 0), None, "without a binary log its syncs do not matter");
        assert_eq!(lax(1, true, 1), None);
        for (settings, said) in [
            ((2, false, 0), "(innodb_flush_log_at_trx_commit is 2)"),
            ((1, true, 0), "(sync_binlog is 0)"),
            ((0, true, 100), "(innodb_flush_log_at_trx_commit is 0, sync_binlog is 100)"),
        ] {
            let why = lax(settings.0, settings.1, settings.2).unwrap();
            assert!(why.contains(said) && why.contains("store.allow_unsynced_commits"), "{why}");
        }
    }

    #[test]
    fn the_end_of_a_server_is_said_in_time() {
        let year = |years: i64| Timestamp::from_ms(LAST_SECOND.ms() - years * 365 * 86_400_000);
        let old = "10.11.19-MariaDB-0+deb12u1";
        assert_eq!(ends(old, year(3)), None);
        assert!(ends(old, year(1)).unwrap().contains("2038-01-19T03:14:07.000Z"));
        assert_eq!(ends("11.8.2-MariaDB", year(1)), None);
        assert_eq!(ends("8.0.36", year(1)), None);
    }
}
