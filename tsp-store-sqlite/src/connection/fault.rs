//! What SQLite's errors mean to a caller.

use std::cell::Cell;

use rusqlite::{ErrorCode, ffi};
use tsp_store::error::{Cause, StoreError};

thread_local! {
    /// Whether a sync has failed on this thread. It may come out of any statement.
    static SYNC_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the disk has failed to keep what this thread wrote. The system forgets what it could not write, so a
/// later sync proves nothing: nobody may go on with the file.
pub(crate) fn sync_failed() -> bool {
    SYNC_FAILED.get()
}

fn note(error: &rusqlite::Error) {
    let code = error.sqlite_error().map(|error| error.extended_code);
    if matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
        SYNC_FAILED.set(true);
    }
}

/// An error of the driver as the store's.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
pub(crate) fn store_error(error: rusqlite::Error) -> StoreError {
    note(&error);
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Cause::DiskFull.because("the disk is full"),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OperationInterrupted
            | ErrorCode::OutOfMemory,
        ) => Cause::Busy.because(why),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly,
        ) => Cause::Away.because(why),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Unusable(format!("the database file is damaged ({why}): restore a backup"))
        }
        _ => StoreError::Internal(why),
    }
}

/// What a failed commit means: a failed write or sync may still have reached the disk, all else has not.
pub(crate) fn commit_error(error: rusqlite::Error) -> StoreError {
    note(&error);
    match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => StoreError::Unknown(error.to_string()),
        _ => match store_error(error) {
            StoreError::Internal(why) => Cause::Away.because(why),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_kind_of_its_code() {
        for (code, cause) in [
            (ffi::SQLITE_FULL, Cause::DiskFull),
            (ffi::SQLITE_BUSY, Cause::Busy),
            (ffi::SQLITE_IOERR, Cause::Away),
        ] {
            let error = store_error(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert!(error.is(cause), "{code}: {error:?}");
        }
    }
}
