//! `tsp completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::failure::Result;
use crate::output::print_document;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tsp completions bash > ~/.local/share/bash-completion/completions/tsp\n  \
    tsp completions zsh > ~/.zfunc/_tsp")]
pub(super) struct Args {
    shell: Shell,
}

impl Args {
    pub(super) fn run(self) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tsp", &mut script);
        print_document(&String::from_utf8_lossy(&script))
    }
}
