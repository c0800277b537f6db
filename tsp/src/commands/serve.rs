//! `tsp serve`

use crate::environment::Environment;
use crate::failure::Result;
use crate::settings::{Flag, Settings, SettingsFile, StoreLocation};
use crate::wiring::{self, ServerClock};

/// Run the service
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    TSP__AUTH__BOOTSTRAP_KEY=… tsp serve\n  \
    tsp serve --config production.toml --listen 0.0.0.0:8080\n\n\
    It prints one line `ready: http://…` when it may be called. SIGTERM and SIGINT stop it gracefully, a second \
    one at once. `tsp config-reference` lists every setting.")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
    /// What this process does: web, fetcher, worker; several with commas
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// Address and port in place of `web.listen`
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let mut flags: Vec<Flag<'_>> = Vec::new();
        flags.extend(self.roles.as_deref().map(|roles| ("--roles", "node.roles", roles)));
        flags.extend(self.listen.as_deref().map(|listen| ("--listen", "web.listen", listen)));
        let settings = Settings::load(self.file.config.as_deref(), environment, &flags)?;
        let clock = match settings.store.location {
            StoreLocation::Cluster(_) => ServerClock::cluster(),
            StoreLocation::File(_) | StoreLocation::Memory => ServerClock::system(),
        };
        wiring::serve(&settings, clock, None)
    }
}
