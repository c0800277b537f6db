//! `tsp get`, `pause`, `resume`, `run`, `replay`: a task goes in, the task comes out.

use super::subject::TaskName;
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::task_sheet;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    /// A task's id, or app/config/key
    #[arg(value_name = "TASK")]
    task: TaskName,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::commands) enum Act {
    Get,
    Pause,
    Resume,
    Run,
    Replay,
}

impl Args {
    pub(in crate::commands) fn run(self, act: Act, environment: &Environment) -> Result {
        let task = self.connection.call(environment, async |client| {
            let subject = self.task.subject(&client);
            let task = match act {
                Act::Get => subject.get().await,
                Act::Pause => subject.pause().await,
                Act::Resume => subject.resume().await,
                Act::Run => subject.run().await,
                Act::Replay => client.replay(&self.task.id(&client).await?).await,
            };
            Ok(task?)
        })?;
        self.connection.output.print(&task, task_sheet)
    }
}
