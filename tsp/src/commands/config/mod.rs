//! `tsp config`

mod apply;
mod export;
mod show;

use clap::Subcommand;

use crate::environment::Environment;
use crate::failure::Result;

/// Configs as files, and the settings of the server
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Apply(apply::Args),
    Export(export::Args),
    Show(show::Args),
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        match self.command {
            Command::Apply(args) => args.run(environment),
            Command::Export(args) => args.run(environment),
            Command::Show(args) => args.run(environment),
        }
    }
}
