//! `tsp submit`

use std::io::Read as _;

use serde_json::value::RawValue;
use tsp_client::{DuplicateKey, SubmitTask};

use super::subject::NewTaskName;
use crate::commands::connection::Connection;
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::task_sheet;

/// Submit a task: one callback at one time
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tsp submit trade/close-order/order-42 --delay 30m --payload '{\"order\": 42}'\n  \
    tsp submit trade/close-order --at 2026-11-21T18:30:00+08:00 --payload @order.json\n  \
    echo '[1, 2]' | tsp submit trade/close-order --payload -")]
pub(in crate::commands) struct Args {
    /// app/config, or app/config/key: the key is how the task is found again
    #[arg(value_name = "NAME")]
    name: NewTaskName,
    /// When, with an offset: 2026-11-21T18:30:00+08:00; without --at and --delay: now
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    at: Option<String>,
    /// From now: 30m, 1h30m, 7d
    #[arg(long, value_name = "DURATION")]
    delay: Option<String>,
    /// JSON; `@FILE` reads a file, `-` standard input
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// What happens when an open task has the key: ignore, reset or add
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    on_duplicate_key: Option<DuplicateKey>,
    /// A header of the callback, `Name: value`; may be repeated
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,
    /// Submit once, however often this is called with the same key within a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(in crate::commands) fn run(self, environment: &Environment) -> Result {
        let task = self.task()?;
        let answer = self.connection.call(environment, async |client| {
            Ok(match &self.idempotency_key {
                Some(key) => client.submit_once(&self.name.app, &task, key).await?,
                None => client.submit(&self.name.app, &task).await?,
            })
        })?;
        self.connection.output.print(&answer, |answer| {
            let after = if answer.after_current { " (after the running attempt)" } else { "" };
            format!("{:<13} {}{after}\n{}", "result", answer.result, task_sheet(&answer.task))
        })
    }

    fn task(&self) -> Result<SubmitTask> {
        Ok(SubmitTask {
            key: self.name.key.clone(),
            execute_at: self.at.clone(),
            delay: self.delay.clone(),
            payload: self.payload.as_deref().map(read_payload).transpose()?,
            on_duplicate_key: self.on_duplicate_key,
            headers: self.header.iter().cloned().collect(),
            ..SubmitTask::new(self.name.config.clone())
        })
    }
}

/// Kept as text: numbers and order arrive at the receiver as they were written.
fn read_payload(given: &str) -> Result<Box<RawValue>> {
    let text = match given.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("the payload `{path}` cannot be read: {error}")))?,
        None if given == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|error| Failure::usage(format!("the payload cannot be read: {error}")))?;
            text
        }
        None => given.to_owned(),
    };
    serde_json::from_str::<&RawValue>(text.trim()).map(ToOwned::to_owned).map_err(|error| {
        Failure::usage(format!("the payload is no JSON: {error}"))
            .advise("a text needs quotes of its own: '\"hello\"'")
    })
}

fn policy(text: &str) -> Result<DuplicateKey, String> {
    DuplicateKey::parse(text).ok_or_else(|| "must be `ignore`, `reset` or `add`".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_any_json_byte_for_byte() {
        assert_eq!(read_payload(r#"{"b": 1.10,  "a":[1e2]}"#).unwrap().get(), r#"{"b": 1.10,  "a":[1e2]}"#);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order.json");
        std::fs::write(&path, "[1,2]\n").unwrap();
        assert_eq!(read_payload(&format!("@{}", path.display())).unwrap().get(), "[1,2]");
        assert!(read_payload("hello").unwrap_err().to_string().contains("no JSON"));
        assert!(read_payload("@/nowhere/x").is_err());
    }
}
