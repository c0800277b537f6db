//! `tsp backup`

use std::path::PathBuf;

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::print;
use crate::settings::SettingsFile;
use crate::wiring::offline::{existing, on_store};
use crate::wiring::{beside, machine_now, store_failure};

/// Copy the database to a new file, as it is at one moment; the server may run
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp backup /backups/tsp-2026-11-21.db --config production.toml\n\n\
    Keep the key file beside the database too (tsp.db.key): without it the secrets in the copy stay sealed.\n\
    What ended after the copy was made runs again after a restore: at least once.")]
pub(super) struct Args {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let settings = self.file.load(environment)?;
        let database = existing(&settings)?;
        if self.to.exists() {
            let shown = self.to.display();
            return Err(Failure::refused(format!("`{shown}` exists, and a backup overwrites nothing"))
                .advise("choose another name"));
        }
        on_store(&settings, machine_now(), async |store| {
            store.backup(&self.to).await.map_err(|error| store_failure(&error))
        })?;
        let bytes = std::fs::metadata(&self.to).map(|file| file.len()).unwrap_or_default();
        print(&format!("wrote `{}`, {bytes} bytes\n", self.to.display()))?;
        if settings.store.secret_key.is_none() {
            eprintln!(
                "keep `{}` with it: its secrets are sealed with that key",
                beside(database, "key").display()
            );
        }
        Ok(())
    }
}
