//! Backup while running, and the check of the file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;
use tsp_store::error::{Cause, Result, StoreError};

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::fault::store_error;
use crate::file::lock::beside;
use crate::file::private;

impl SqliteStore {
    /// Writes a copy of the database, as it is at one moment, to a file that must not exist yet. Writers go
    /// on meanwhile. The copy has no key file: keep `<database>.key` too, or its secrets stay sealed.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the file exists or cannot be written, or the store is in memory.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let Some(from) = self.path.clone() else {
            return Err(StoreError::Unusable("a store in memory has no backup".to_owned()));
        };
        let to = to.to_owned();
        let (done, answer) = oneshot::channel();
        // It may take minutes: neither a reader nor a thread of the runtime should be held that long.
        let thread = std::thread::Builder::new().name("tsp-store-backup".to_owned()).spawn(move || {
            let _ = done.send(copy(&from, &to));
        });
        thread.map_err(|error| Cause::Busy.because(format!("no thread for the backup: {error}")))?;
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::Internal("the backup ended without an answer".to_owned())))
    }

    /// What SQLite finds wrong with the file, at most ten lines; empty when it is sound.
    pub async fn check(&self) -> Result<Vec<String>> {
        self.read(Command::Check, |conn| {
            let mut check = conn.prepare("-- check\nPRAGMA quick_check(10)")?;
            let lines = check.all([], |row| row.get::<String>(0))?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
        .await
    }
}

/// A half copy is never seen under the name asked for.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let exists = || StoreError::Unusable(format!("`{}` exists: a backup overwrites nothing", to.display()));
    if to.exists() {
        return Err(exists());
    }
    let draft = beside(to, "partial");
    let copied = fill(from, &draft);
    let linked = copied.and_then(|()| {
        fs::hard_link(&draft, to).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(),
            _ => StoreError::Unusable(format!("`{}` cannot be made: {error}", to.display())),
        })
    });
    for leftover in [draft.clone(), suffixed(&draft, "-journal"), suffixed(&draft, "-wal")] {
        let _ = fs::remove_file(leftover);
    }
    linked
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn fill(from: &Path, draft: &Path) -> Result<()> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(store_error)?;
    let unwritable = |error: &dyn std::fmt::Display| {
        StoreError::Unusable(format!("`{}` cannot be written: {error}", draft.display()))
    };
    let _ = fs::remove_file(draft);
    private::ensure(draft).map_err(|error| unwritable(&error))?;
    let mut target = Connection::open(draft).map_err(|error| unwritable(&error))?;
    // One step is one snapshot: in several, each write of others would start the copy again.
    let backup = Backup::new(&source, &mut target).map_err(store_error)?;
    backup.run_to_completion(i32::MAX, Duration::ZERO, None).map_err(store_error)
}
