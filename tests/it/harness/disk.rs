//! A disk that is small enough to be filled.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::TempDir;

/// The file that takes what is left.
const BALLAST: &str = "ballast";
/// What is left after a write of the one size is taken by writes of the next.
const PIECES: [usize; 2] = [64 << 10, 512];

/// A file system of a few MiB, taken away again when the test is over.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// Nothing if this machine does not let the test mount one.
    pub(crate) async fn mount(size: &str) -> Option<Self> {
        let dir = TempDir::new();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null());
        mount.status().await.is_ok_and(|status| status.success()).then_some(Self { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) async fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(self.dir.path());
        assert!(mount.status().await.is_ok_and(|status| status.success()), "cannot resize the small disk");
    }

    /// Takes all the room that is left, and returns how many bytes that were.
    pub(crate) fn fill(&self) -> u64 {
        let mut ballast = std::fs::File::create(self.join(BALLAST)).expect("the small disk takes a file");
        for piece in PIECES {
            loop {
                match ballast.write(&vec![b'x'; piece]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("filling the small disk: {error}"),
                }
            }
        }
        ballast.metadata().expect("an open file has a size").len()
    }

    /// Gives back what [`Self::fill`] took.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.join(BALLAST)).expect("the small disk was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The process that used it has ended by now; a mount that stays is only untidy.
        let _ = std::process::Command::new("umount").arg(self.dir.path()).status();
    }
}
