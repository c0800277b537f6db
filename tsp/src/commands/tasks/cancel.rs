//! `tsp cancel`

use tsp_api::task::TaskResult;
use tsp_client::{CancelAnswer, CancelOutcome};

use super::subject::TaskName;
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::task_sheet;

/// Cancel a task; exit code 4 when it is too late
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tsp cancel 7301120512000000001\n  tsp cancel trade/close-order/order-42"
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
        let answer = self
            .connection
            .call(environment, async |client| Ok(self.task.subject(&client).cancel().await?))?;
        self.connection.output.print(&answer, |answer| {
            format!("{:<13} {}\n{}", "outcome", answer.outcome, task_sheet(&answer.task))
        })?;
        verdict(&answer)
    }
}

/// A script that cancels twice means no harm; one that comes too late must hear of it.
fn verdict(answer: &CancelAnswer) -> Result {
    let id = answer.task.id;
    match (answer.outcome, answer.task.result) {
        (CancelOutcome::Cancelled, _) | (CancelOutcome::AlreadyEnded, Some(TaskResult::Cancelled)) => Ok(()),
        (CancelOutcome::AlreadyEnded, result) => {
            let result = result.map(TaskResult::as_str).unwrap_or_default();
            Err(Failure::refused(format!("task `{id}` had ended before: {result}")))
        }
        (CancelOutcome::TooLate, _) => Err(Failure::refused(format!("task `{id}` is executing now"))
            .advise("this attempt is its last; `tsp attempts` shows how it came out")),
    }
}
