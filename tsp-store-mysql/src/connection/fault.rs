//! What MySQL's errors mean to a caller.

use sqlx::mysql::MySqlDatabaseError;
use tsp_store::error::{Cause, StoreError};

/// What a failed statement says about its transaction and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Deadlock or lock wait: the whole transaction again.
    Again,
    /// The connection is of no use any more.
    Broken,
    /// The row is there already under one of the unique keys.
    Duplicate,
    /// A table is not there: its shard was moved.
    Moved,
    /// The server prepares no more statements.
    Unprepared,
    /// The statement failed; the connection is good.
    Statement,
}

/// The server's number of an error, if it is the server's.
fn number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

pub(crate) fn fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(_) => match number(error) {
            // ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT
            Some(1213 | 1205) => Fault::Again,
            // Shutdown, gone away, lost, killed, idle for too long.
            Some(1053 | 1927 | 2006 | 2013 | 4031) => Fault::Broken,
            Some(1062 | 1586) => Fault::Duplicate,
            Some(1146) => Fault::Moved,
            Some(1461) => Fault::Unprepared,
            _ => Fault::Statement,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Fault::Broken,
        _ => Fault::Statement,
    }
}

/// An error of the driver as the store's.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    let cause = match &error {
        sqlx::Error::Database(_) => number(&error).and_then(cause),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Some(Cause::Away),
        _ => None,
    };
    let why = error.to_string();
    match cause {
        Some(cause) => StoreError::Unavailable { cause, why },
        None => StoreError::Internal(why),
    }
}

/// Of errors that may be gone when the call is retried.
const fn cause(number: u16) -> Option<Cause> {
    match number {
        // Deadlock, lock wait.
        1213 | 1205
        // Too many connections, of all or of one user; limits of the account.
        | 1040 | 1203 | 1226
        // Statement timeouts of MariaDB and MySQL.
        | 1969 | 3024
        // Out of memory, statements used up.
        | 1037 | 1038 | 1041 | 1461 => Some(Cause::Busy),
        // No access just now: grants and databases are put right by operators.
        1044 | 1045 | 1049 | 1698
        // Shutdown, killed, interrupted, gone away, lost, idle for too long.
        | 1053 | 1317 | 1927 | 2006 | 2013 | 4031
        // Read-only: a failover.
        | 1290 | 1836 | 1792 => Some(Cause::Away),
        // Disk full, table full; no room to write a file, or one that a sort would need.
        1021 | 1114 | 3 | 1026 | 1878 => Some(Cause::DiskFull),
        1146 => Some(Cause::NoTable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_kind_of_its_number() {
        let duplicate = 1062;
        let kinds = [1205, 2006, 1114, 1146, duplicate].map(cause);
        let wanted = [Cause::Busy, Cause::Away, Cause::DiskFull, Cause::NoTable].map(Some);
        assert_eq!(kinds[..4], wanted);
        assert_eq!(kinds[4], None);
    }
}
