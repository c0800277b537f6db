//! `tsp config show`

use crate::environment::Environment;
use crate::failure::Result;
use crate::output::print;
use crate::settings::{SettingsFile, read_layers, show};

/// Print the settings that hold here, and where each comes from; secrets are hidden
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp config show --config production.toml")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let layers = read_layers(self.file.config.as_deref(), environment, &[])?;
        print(&show(&layers))?;
        // Shown all the same, so that what is wrong can be looked at.
        self.file.load(environment).map(|_| ())
    }
}
