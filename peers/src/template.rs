//! An empty MariaDB data directory, made once for a machine and copied for each server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;

use crate::{PeerError, program};

/// Part of the directory's name: raise it when the way of making it changes.
const FORMAT: u32 = 1;
/// A server that starts with another size writes its log again, which takes longer than starting.
pub(crate) const LOG_FILE_SIZE: &str = "--innodb-log-file-size=16M";

/// One is enough for the threads of a process.
static MAKING: Mutex<()> = Mutex::new(());

/// Copies an empty data directory of this server's version to `target`.
pub(crate) fn copy_to(target: &Path, mariadbd: &Path) -> Result<(), PeerError> {
    let template = template(mariadbd)?;
    program::run(Command::new("cp").args(["-R", "-p"]).arg(template).arg(target)).map(drop)
}

fn template(mariadbd: &Path) -> Result<PathBuf, PeerError> {
    let version = program::run(Command::new(mariadbd).args(["--no-defaults", "--version"]))?;
    let version = version.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
    // The files are readable by their owner only.
    let user = rustix::process::geteuid().as_raw();
    let place = program::tools().join(format!("mariadb-{version}-user{user}-{FORMAT}"));
    let _alone = MAKING.lock();
    if !place.exists() {
        make(&place)?;
    }
    Ok(place)
}

/// Several processes may do this at once: each makes its own and the first to be ready names it.
fn make(place: &Path) -> Result<(), PeerError> {
    let tools = program::tools();
    std::fs::create_dir_all(&tools).map_err(PeerError::io(tools.display().to_string()))?;
    let mut builder = tempfile::Builder::new();
    let scratch = builder.prefix("mariadb-").tempdir_in(&tools).map_err(PeerError::io("a directory"))?;
    let data = scratch.path().join("data");
    let install = program::find("mariadb-install-db", super::mariadb::INSTALL)?;
    let mut command = Command::new(install);
    command.arg("--no-defaults").args(user()).arg(format!("--datadir={}", data.display()));
    // Several at once in the same directory remove each other's temporary tables.
    command.arg(format!("--tmpdir={}", scratch.path().display()));
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db", LOG_FILE_SIZE]);
    program::run(&mut command)?;
    match std::fs::rename(&data, place) {
        // A directory that is not empty is not replaced: another process was faster.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        outcome => outcome.map_err(PeerError::io(place.display().to_string())),
    }
}

/// The server refuses to run as root unless it is told to.
pub(crate) fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}
