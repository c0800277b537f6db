//! Room set aside beside the database, so that a disk that has filled up does not also keep the service
//! from starting: what was accepted must still be called back, and that needs a few pages.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tsp_core::Entropy;
use tsp_store::{Cause, StoreError};

use super::store::beside;

const BYTES: usize = 1024 * 1024;

/// `<database>.reserve`
#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
}

impl DiskReserve {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: beside(database, "reserve") }
    }

    /// Gives the room to the database if that is what it lacks. Says whether there was any.
    pub(super) fn give_up(&self, error: &StoreError) -> bool {
        if !error.is(Cause::DiskFull) || fs::remove_file(&self.path).is_err() {
            return false;
        }
        tracing::error!(
            file = %self.path.display(),
            "the disk is full; starting on the room that was set aside. Make room on the disk now"
        );
        true
    }

    /// Sets the room aside, if it is not yet. A disk without room is the operator's to mend.
    pub(super) fn keep(&self, entropy: &dyn Entropy) {
        if self.path.exists() {
            return;
        }
        if let Err(error) = self.fill(entropy) {
            let _ = fs::remove_file(&self.path);
            tracing::warn!(%error, file = %self.path.display(), "cannot set room aside for a full disk");
        }
    }

    fn fill(&self, entropy: &dyn Entropy) -> std::io::Result<()> {
        // Random, because a file system may keep nothing for zeros.
        let mut bytes = vec![0; BYTES];
        entropy.fill(&mut bytes);
        let mut file = fs::File::create_new(&self.path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::OsEntropy;

    #[test]
    fn it_is_given_up_for_a_full_disk_only_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk_reserve = DiskReserve::of(&dir.path().join("tsp.db"));
        let full = Cause::DiskFull.because("the disk is full");
        assert!(!disk_reserve.give_up(&full), "there is none yet");
        disk_reserve.keep(&OsEntropy);
        let path = dir.path().join("tsp.db.reserve");
        assert_eq!(fs::metadata(&path).unwrap().len(), 1_048_576);
        assert!(!disk_reserve.give_up(&Cause::Away.because("`/disk is full` is away")));
        assert!(disk_reserve.give_up(&full) && !path.exists());
        disk_reserve.keep(&OsEntropy);
        assert!(path.exists());
    }
}
