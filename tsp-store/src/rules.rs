//! What the SQL back ends keep of attempts. The in-memory store keeps each as it is.

use tsp_core::NodeId;
use tsp_core::task::{AttemptRecord, EndResult, Status, Task};
use tsp_core::transition::Change;

/// Whether a change is just a claim or begin to `status`, which alters few columns.
pub fn is_plain(change: &Change, status: Status) -> bool {
    change.task.status == status && change.closed.is_none()
}

/// One successful first attempt is in `history` itself and has no row of its own.
pub fn ended_at_first_try(task: &Task) -> bool {
    task.attempt == 1 && task.result == Some(EndResult::Succeeded)
}

/// The attempt that [`ended_at_first_try`] left out, as it would have been written.
pub fn only_attempt(task: &Task, node: Option<NodeId>) -> Option<AttemptRecord> {
    let last = task.last_outcome.as_ref().filter(|_| ended_at_first_try(task))?;
    Some(AttemptRecord {
        task: task.id,
        attempt: task.attempt,
        started_at: task.started_at.unwrap_or(last.at),
        ended_at: last.at,
        due_at: task.begun_due_at.unwrap_or(task.due_at),
        node,
        kind: last.kind,
        reason: last.reason.clone(),
        http_status: last.http_status,
        excerpt: task.extra.as_ref().and_then(|extra| extra.excerpt.clone()),
    })
}
