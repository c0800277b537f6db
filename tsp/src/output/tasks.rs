//! Tasks and attempts for people.

use std::fmt::Write as _;

use tsp_client::{Attempt, Task};

use super::{Table, visible_line};

const EXCERPT_CHARS: usize = 60;

/// One line per task.
pub(crate) fn task_list(tasks: &[Task]) -> String {
    let mut table = Table::new(&["id", "config", "key", "state", "due", "attempt", "last outcome"]);
    for task in tasks {
        table.row([
            task.id.to_string(),
            format!("{}/{}", task.app, task.config),
            text(task.key.as_ref()),
            state(task),
            task.due_at.to_string(),
            task.attempt.to_string(),
            last_outcome(task),
        ]);
    }
    table.render()
}

/// One task, a line per field.
pub(crate) fn task_sheet(task: &Task) -> String {
    let actions: Vec<_> = task.actions.iter().map(|action| action.as_str()).collect();
    let progress = task.progress.as_ref().map(|progress| {
        let percent = progress.percent.map(|percent| format!("{percent} %")).unwrap_or_default();
        format!("{percent} {}", text(progress.message.as_ref())).trim().to_owned()
    });
    let fields = [
        ("id", task.id.to_string()),
        ("config", format!("{}/{}", task.app, task.config)),
        ("key", text(task.key.as_ref())),
        ("state", state(task)),
        ("execute at", task.execute_at.to_string()),
        ("due at", task.due_at.to_string()),
        ("created at", task.created_at.to_string()),
        ("started at", text(task.started_at.as_ref())),
        ("ended at", text(task.ended_at.as_ref())),
        ("attempt", task.attempt.to_string()),
        ("last outcome", last_outcome(task)),
        ("progress", text(progress.as_ref())),
        ("payload", task.payload.as_ref().map(|payload| payload.get().to_owned()).unwrap_or_default()),
        ("actions", actions.join(", ")),
    ];
    let mut sheet = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(sheet, "{name:<13} {}", visible_line(value));
    }
    sheet
}

pub(crate) fn attempt_table(attempts: &[Attempt]) -> String {
    let mut table =
        Table::new(&["attempt", "started", "outcome", "reason", "status", "late ms", "took ms", "answer"]);
    for attempt in attempts {
        let excerpt = text(attempt.response_excerpt.as_ref());
        table.row([
            attempt.attempt.to_string(),
            attempt.started_at.to_string(),
            attempt.outcome.to_string(),
            attempt.reason.clone(),
            text(attempt.http_status.as_ref()),
            attempt.lateness_ms.to_string(),
            attempt.duration_ms.to_string(),
            excerpt.chars().take(EXCERPT_CHARS).collect(),
        ]);
    }
    table.render()
}

fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Where it stands, and how it ended once it has.
fn state(task: &Task) -> String {
    match task.result {
        Some(result) => format!("{} {result}", task.state),
        None => task.state.to_string(),
    }
}

fn last_outcome(task: &Task) -> String {
    let Some(last) = &task.last_outcome else { return String::new() };
    let status = last.http_status.map(|status| format!(" {status}")).unwrap_or_default();
    format!("{} ({}{status})", last.outcome, last.reason)
}
