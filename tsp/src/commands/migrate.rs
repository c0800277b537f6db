//! `tsp migrate`

use crate::environment::Environment;
use crate::failure::Result;
use crate::output::print;
use crate::settings::{SettingsFile, StoreLocation};
use crate::wiring::offline::{block_on, existing, on_store};
use crate::wiring::{cluster, machine_now};

/// Bring the schema up to this binary's; makes an embedded database, or the tables of a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp migrate --config production.toml\n\n\
    For an embedded store `tsp serve` does it by itself. For a cluster it is the first step, before any process\n\
    starts: it makes the tables in the databases of `store.meta` and `store.sources`, which must exist. It may be\n\
    run again at any time, also beside processes of the version before.")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let settings = self.file.load(environment)?;
        if matches!(settings.store.location, StoreLocation::Cluster(_)) {
            return print(&block_on(cluster::migrate(&settings))?);
        }
        // Opening migrates.
        on_store(&settings, machine_now(), async |_| Ok(()))?;
        print(&format!("`{}` is up to date\n", existing(&settings)?.display()))
    }
}
