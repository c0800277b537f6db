//! `tsp clock`

use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;

/// Every callback on the way really happens, and is waited for.
const PATIENCE: Duration = Duration::from_hours(1);

/// Move the clock of a development server
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move it forward, from due time to due time; answers when all that fired has ended
    #[command(
        after_help = "Examples:\n  tsp clock advance 3d\n  tsp clock advance 1h30m --server http://127.0.0.1:9000"
    )]
    Advance {
        /// How far: 30m, 1h30m, 3d
        by: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let Command::Advance { by, connection } = self.command;
        let connection = connection.patient(PATIENCE);
        let answer = connection.call(environment, async |client| {
            Ok(client.request_json(Method::POST, "/dev/clock", Some(&json!({ "advance": by }))).await?)
        })?;
        connection.output.print(&answer, |answer| {
            let text = |field: &str| match &answer[field] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("now {}, {} callbacks\n", text("now"), text("fired"))
        })
    }
}
