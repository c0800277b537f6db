//! `tsp config apply`

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::apply::{Plan, Remote, carry_out, check, normal, read_files};
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::print;

/// Make the server's configs what the files say: prints a plan, has it checked, then carries it out
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tsp config apply -f configs/ --dry-run\n  \
    tsp config apply -f trade.yaml -f logistics.json --prune\n  \
    tsp config export --app trade | tsp config apply -f -\n\n\
    A document is a config as the API has it, with `app` beside `name`. What it leaves out gets its default.\n\
    In YAML a payload may also be a text of JSON, which is taken to the byte: `payload_json: '{\"n\": 1.10}'`.")]
pub(super) struct Args {
    /// A file of YAML or JSON documents, a folder of such files, or `-`; may be repeated
    #[arg(long, short, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Print the plan, let the server check it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete configs of the same apps that stand in no file
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let documents = read_files(&self.file)?;
        self.connection.call(environment, async |client| {
            let apps: BTreeSet<String> = documents.iter().map(|document| document.app.clone()).collect();
            let remote = Remote::of(&client, &apps).await?;
            let plan = Plan::make(documents, &remote.apps, &remote.configs, self.prune, normal);
            print(&plan.render())?;
            for notice in check(&client, &plan).await? {
                eprintln!("note: {notice}");
            }
            if self.dry_run || plan.is_empty() {
                return Ok(());
            }
            carry_out(&client, &plan).await?;
            print("applied\n")
        })
    }
}
