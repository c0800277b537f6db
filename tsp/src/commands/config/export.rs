//! `tsp config export`

use crate::apply::{Remote, Syntax, exported, write};
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::{Format, print_document};

/// Print the server's configs as documents for `tsp config apply`, and tell what those leave out: secrets, and
/// whether a config is paused
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tsp config export > configs.yaml\n  tsp config export --app trade --syntax json"
)]
pub(super) struct Args {
    /// Only this app; may be repeated
    #[arg(long, value_name = "APP")]
    app: Vec<String>,
    /// `-o json` is as good as `--syntax json`
    #[arg(long, value_enum, default_value_t)]
    syntax: Syntax,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let remote = self.connection.call(environment, async |client| {
            if self.app.is_empty() {
                return Remote::all(&client).await;
            }
            let remote = Remote::of(&client, &self.app.iter().cloned().collect()).await?;
            match self.app.iter().find(|app| !remote.apps.contains(*app)) {
                Some(app) => Err(Failure::not_found(format!("there is no app `{app}`"))),
                None => Ok(remote),
            }
        })?;
        let documents: Vec<_> =
            remote.configs.iter().map(|((app, _), current)| exported(app, current)).collect();
        for document in documents.iter().filter(|document| !document.left_out.is_empty()) {
            eprintln!("left out of `{}/{}`: {}", document.app, document.name, document.left_out.join(", "));
        }
        let syntax = if self.connection.output == Format::Json { Syntax::Json } else { self.syntax };
        print_document(&write(&documents, syntax)?)
    }
}
