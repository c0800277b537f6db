//! `tsp attempts`

use super::subject::TaskName;
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::attempt_table;

/// Show the attempts of a task, oldest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tsp attempts 7301120512000000001\n  tsp attempts trade/close-order/order-42 -o json"
)]
pub(in crate::commands) struct Args {
    /// A task's id, or app/config/key
    #[arg(value_name = "TASK")]
    task: TaskName,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(in crate::commands) fn run(self, environment: &Environment) -> Result {
        let attempts = self.connection.call(environment, async |client| {
            let id = self.task.id(&client).await?;
            Ok(client.attempts(&id).await?)
        })?;
        self.connection.output.print(&attempts, |attempts| attempt_table(attempts))
    }
}
