//! `tsp openapi`

use crate::failure::Result;
use crate::output::print_document;

/// Print the OpenAPI document of the API, as `docs/openapi.json` keeps it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp openapi > openapi.json")]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "all commands are run alike")]
    pub(super) fn run(self) -> Result {
        print_document(&format!("{:#}\n", tsp_web::openapi_document()))
    }
}
