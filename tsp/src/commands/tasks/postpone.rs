//! `tsp postpone`

use super::subject::TaskName;
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::task_sheet;

/// Give a task a new time, later or earlier
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tsp postpone trade/close-order/order-42 --delay 30m\n  \
    tsp postpone 7301120512000000001 --at 2026-11-21T18:30:00+08:00")]
pub(in crate::commands) struct Args {
    /// A task's id, or app/config/key
    #[arg(value_name = "TASK")]
    task: TaskName,
    #[command(flatten)]
    time: NewTime,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct NewTime {
    /// The new time, with an offset: 2026-11-21T18:30:00+08:00
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// From now: 30m, 1h30m, 7d
    #[arg(long, value_name = "DURATION")]
    delay: Option<String>,
}

impl Args {
    pub(in crate::commands) fn run(self, environment: &Environment) -> Result {
        let task = self.connection.call(environment, async |client| {
            let subject = self.task.subject(&client);
            Ok(match (&self.time.at, &self.time.delay) {
                (Some(at), _) => subject.postpone_to(at).await?,
                (None, delay) => subject.postpone_by(delay.as_deref().unwrap_or("0s")).await?,
            })
        })?;
        self.connection.output.print(&task, task_sheet)
    }
}
