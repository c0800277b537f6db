//! `tsp list`

use tsp_api::task::TaskResult;
use tsp_client::{ListTasks, Task, TaskState};

use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::Result;
use crate::output::task_list;

/// The most tasks one call of the API answers with.
const PAGE_MAX: u16 = 500;

/// List tasks of an app, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tsp list trade\n  \
    tsp list trade --config close-order --state scheduled,paused --limit 200\n  \
    tsp list trade --result failed -o json")]
pub(in crate::commands) struct Args {
    /// The app
    app: String,
    /// A config; several with commas
    #[arg(long)]
    config: Option<String>,
    /// The business key
    #[arg(long, value_name = "KEY")]
    task_key: Option<String>,
    /// scheduled, queued, executing, paused, awaiting, ended; several with commas
    #[arg(long, value_delimiter = ',', value_parser = state)]
    state: Vec<TaskState>,
    /// succeeded, failed, cancelled, expired, skipped; several with commas
    #[arg(long, value_delimiter = ',', value_parser = result)]
    result: Vec<TaskResult>,
    /// Due at or after this time
    #[arg(long, value_name = "TIME")]
    due_from: Option<String>,
    /// Due before this time
    #[arg(long, value_name = "TIME")]
    due_to: Option<String>,
    /// -id, id, -ended_at or due_at
    #[arg(long, allow_hyphen_values = true)]
    order: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(in crate::commands) fn run(self, environment: &Environment) -> Result {
        let filter = self.filter();
        let tasks = self.connection.call(environment, async |client| {
            let mut pages = client.list(&self.app, filter);
            let mut tasks: Vec<Task> = Vec::new();
            // A page may be short or empty and not the last.
            while tasks.len() < self.limit
                && let Some(page) = pages.next().await?
            {
                tasks.extend(page.items);
            }
            tasks.truncate(self.limit);
            Ok(tasks)
        })?;
        self.connection.output.print(&tasks, |tasks| task_list(tasks))
    }

    fn filter(&self) -> ListTasks {
        ListTasks {
            config: self.config.clone(),
            key: self.task_key.clone(),
            states: self.state.clone(),
            results: self.result.clone(),
            due_from: self.due_from.clone(),
            due_to: self.due_to.clone(),
            order: self.order.clone(),
            limit: Some(u16::try_from(self.limit).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)),
            ..ListTasks::default()
        }
    }
}

fn state(text: &str) -> Result<TaskState, String> {
    TaskState::parse(text).ok_or_else(|| words(TaskState::ALL.iter().map(|state| state.as_str())))
}

fn result(text: &str) -> Result<TaskResult, String> {
    TaskResult::parse(text).ok_or_else(|| words(TaskResult::ALL.iter().map(|result| result.as_str())))
}

fn words<'a>(known: impl Iterator<Item = &'a str>) -> String {
    format!("must be one of {}", known.collect::<Vec<_>>().join(", "))
}
