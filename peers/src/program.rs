//! Where the executables are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PeerError;

/// The repository's own directory for tools.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").join(".tools")
}

/// Finds `program` on the search path, among the system's servers, or in the repository's tools.
pub(crate) fn find(program: &'static str, install: &'static str) -> Result<PathBuf, PeerError> {
    let output = Command::new("sh")
        .args(["-c", r#"PATH="$PATH:/usr/sbin:$2"; command -v "$1""#, "sh", program])
        .arg(tools().join("bin"))
        .output()
        .map_err(PeerError::io("starting `sh`"))?;
    let found = String::from_utf8_lossy(&output.stdout);
    match found.trim_end() {
        "" => Err(PeerError::Missing { program, install }),
        path => Ok(PathBuf::from(path)),
    }
}

/// Runs a helper program to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, PeerError> {
    let request = format!("{command:?}");
    let output = command.output().map_err(PeerError::io(request.clone()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Err(PeerError::Refused { request, said })
}
