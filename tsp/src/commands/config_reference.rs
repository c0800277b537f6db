//! `tsp config-reference`

use crate::failure::Result;
use crate::output::print_document;
use crate::settings::reference;

/// Print every setting with its default, as Markdown
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp config-reference | less")]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "all commands are run alike")]
    pub(super) fn run(self) -> Result {
        print_document(&reference::markdown())
    }
}
