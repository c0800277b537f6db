//! How long a task has been failing: what `max_age` limits (DESIGN.md section 5.2).
//!
//! Only the running of attempts and the retry policy's own back-off count. [`Task::age_from`] moves forward by
//! every other wait: pause, hold, limit, outage, snooze, an awaited 202, what the receiver asked for beyond the
//! back-off. While a row waits, `due_at - age_from` is the age that it will have when it is due; how much later
//! than that it was begun is left out when the attempt is closed, so that a begin writes nothing of it.

use crate::outcome::OutcomeKind;
use crate::task::{Status, Task};
use crate::time::{Millis, Timestamp};

/// The open attempt stops running at `now`: as its task is closed or accepted. Leaves out what was not its running.
pub(super) fn leave_out_waits(task: &mut Task, lost: bool, now: Timestamp) {
    let due_at = task.begun_due_at.unwrap_or(now);
    let (from, to) = match (task.status, &task.last_outcome) {
        (Status::Awaiting, Some(accepted)) => (accepted.at, now),
        // A lost process is no failure of the receiver, however long nobody noticed.
        _ if lost => (due_at, now),
        _ => (due_at, task.started_at.unwrap_or(due_at)),
    };
    leave_out(task, to.since(from));
}

/// Leaves out a wait of this length; nothing if it is negative.
pub(super) fn leave_out(task: &mut Task, wait: Millis) {
    task.age_from = task.age_from.plus(wait.max(Millis::ZERO));
}

/// An operator makes a waiting row due now: later than it was (the wait until now is theirs), or earlier.
pub(super) fn due_now(task: &mut Task, now: Timestamp) {
    let later = now.since(task.due_at);
    if later.is_positive() {
        leave_out(task, later);
    } else if waits_for_backoff(task) {
        task.age_from = task.age_from.min(now);
    } else {
        // What was left out in advance and is not waited for.
        task.age_from = task.age_from.plus(later);
    }
}

fn waits_for_backoff(task: &Task) -> bool {
    task.last_outcome.as_ref().is_some_and(|last| last.kind == OutcomeKind::Retry)
}
