//! Files that only the user of the service reads: what is in them are other people's payloads and secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::file::lock::beside;

/// A new file, or an old one emptied.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    options().truncate(true).create(true).open(path)
}

/// Makes the file if there is none; SQLite gives its log and its index the same mode.
pub(crate) fn ensure(path: &Path) -> io::Result<()> {
    match options().create_new(true).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The files of this database that others may read or write.
pub(crate) fn open_to_others(database: &Path) -> Vec<PathBuf> {
    let with = |suffix: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let files = [database.to_owned(), with("-wal"), with("-shm"), beside(database, "key")];
    files.into_iter().filter(|path| is_open_to_others(path)).collect()
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}
