//! `tsp migrate`

use tsp_core::{Clock as _, SystemClock};

use super::on_store;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::print;
use crate::settings::{SettingsFile, StorePlace};

/// Bring the schema of the database up to this binary's; makes the database if there is none
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp migrate --config production.toml\n\n\
    `tsp serve` does it by itself; this is for doing it before.")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let settings = self.file.load(environment)?;
        // Opening migrates.
        on_store(&settings, SystemClock::new().now(), async |_| Ok(()))?;
        match &settings.store.place {
            StorePlace::File(path) => print(&format!("`{}` is up to date\n", path.display())),
            StorePlace::Memory => Ok(()),
        }
    }
}
