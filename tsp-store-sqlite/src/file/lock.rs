//! The lock file of the serving process: one process serves a database (DESIGN.md section 7, rescue).

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tsp_store::error::{Result, StoreError};

/// Held by the process that serves a database, as long as this value lives. Other commands (`key create`,
/// `doctor`, `backup`) work beside it without one.
///
/// The file also tells whether the last server closed the database: it is empty then.
#[derive(Debug)]
pub struct ServeLock {
    file: File,
    path: PathBuf,
    found_clean: bool,
    leave_clean: AtomicBool,
}

impl ServeLock {
    /// Locks `<database>.lock`. The operating system lets go of it with the process, however it ends.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when another process holds it, or the file cannot be made.
    pub fn acquire(database: &Path) -> Result<Self> {
        let path = beside(database, "lock");
        // A database without the file was copied or restored, and nobody knows how its last process ended.
        let known = path.exists() || !database.exists();
        let unusable =
            |why: String| StoreError::Unusable(format!("the lock file `{}` {why}", path.display()));
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(|error| unusable(format!("cannot be opened: {error}")))?;
        let locked = file.try_lock();
        let holder = std::io::read_to_string(&file).unwrap_or_default();
        let holder = holder.trim();
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
                return Err(unusable(format!(
                    "is held: another process{by} serves `{}`; stop it, or choose another database",
                    database.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(format!("cannot be locked: {error}"))),
        }
        // The number is for operators; the lock itself does not depend on it.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| unusable(format!("cannot be written: {error}")))?;
        let found_clean = known && holder.is_empty();
        Ok(Self { file, path, found_clean, leave_clean: AtomicBool::new(found_clean) })
    }

    /// Whether the last server closed the database.
    pub fn found_clean(&self) -> bool {
        self.found_clean
    }

    /// From now on the database is in use, and if the power fails the file says so.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the file cannot be written.
    pub fn begin(&self) -> Result<()> {
        self.leave_clean.store(false, Ordering::Relaxed);
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = self.file.sync_all().and_then(|()| File::open(folder)?.sync_all());
        synced.map_err(|error| {
            StoreError::Unusable(format!("the lock file `{}` cannot be synced: {error}", self.path.display()))
        })
    }

    /// The database was closed.
    pub fn end(&self) {
        self.leave_clean.store(true, Ordering::Relaxed);
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two processes lock two files of one name.
        if self.leave_clean.load(Ordering::Relaxed) {
            let _ = self.file.set_len(0);
        }
        let _ = self.file.unlock();
    }
}

/// `<database>.<extension>`.
pub(crate) fn beside(database: &Path, extension: &str) -> PathBuf {
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
    fn it_tells_whether_the_last_server_closed_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("tsp.db");
        let acquire = || ServeLock::acquire(&database).unwrap();
        let first = acquire();
        assert!(first.found_clean(), "there is no database yet");
        first.begin().unwrap();
        std::fs::write(&database, "").unwrap();
        drop(first);
        assert!(!acquire().found_clean(), "it went without a word");
        let second = acquire();
        assert!(!second.found_clean(), "a look changes nothing");
        second.begin().unwrap();
        second.end();
        drop(second);
        assert!(acquire().found_clean());
        assert!(acquire().found_clean(), "a look changes nothing");
        std::fs::remove_file(dir.path().join("tsp.db.lock")).unwrap();
        assert!(!acquire().found_clean(), "a database from elsewhere");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let refused = ServeLock::acquire(&dir.path().join("no/tsp.db")).unwrap_err().to_string();
        assert!(refused.contains("no/tsp.db.lock") && refused.contains("cannot be opened"), "{refused}");
    }
}
