//! The lock file of the serving process: one process serves a database (DESIGN.md section 7, rescue).

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};

/// Held by the process that serves a database, as long as this value lives. Other commands (`key create`,
/// `doctor`, `backup`) work beside it without one.
#[derive(Debug)]
pub struct ServeLock {
    file: File,
}

impl ServeLock {
    /// Locks `<database>.lock`. The operating system lets go of it with the process, however it ends.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when another process holds it, or the file cannot be made.
    pub fn acquire(database: &Path) -> Result<Self> {
        let path = beside(database, "lock");
        let unusable =
            |why: String| StoreError::Unusable(format!("the lock file `{}` {why}", path.display()));
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(|error| unusable(format!("cannot be opened: {error}")))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::io::read_to_string(&file).unwrap_or_default();
                let holder = holder.trim();
                let by = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
                return Err(unusable(format!(
                    "is held: another process{by} serves `{}`; stop it, or choose another database",
                    database.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(format!("cannot be locked: {error}"))),
        }
        // The number is for people; the lock itself does not depend on it.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| unusable(format!("cannot be written: {error}")))?;
        Ok(Self { file })
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two processes lock two files of one name.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// `<database>.<extension>`.
pub(super) fn beside(database: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_with_the_file_and_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("tsp.db");
        let lock = ServeLock::acquire(&database).unwrap();
        let refused = ServeLock::acquire(&database).unwrap_err().to_string();
        assert!(refused.contains("tsp.db.lock"), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(lock);
        assert!(ServeLock::acquire(&database).is_ok());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = ServeLock::acquire(&dir.path().join("no/tsp.db")).unwrap_err().to_string();
        assert!(refused.contains("no/tsp.db.lock") && refused.contains("cannot be opened"), "{refused}");
    }
}
