//! What callers and operators do to a task.

use bytes::Bytes;

use crate::outcome::OutcomeKind;
use crate::task::{Action, EndResult, NextRun, Status, Task};
use crate::time::Timestamp;

use super::attempt::close_awaited;
use super::{Change, OutcomeDetail, Refusal, age, changed, end, expire, renew, schedule};

pub(super) fn pause(task: &Task) -> Result<Change, Refusal> {
    match task.status {
        Status::Scheduled | Status::Queued => Ok(changed(task, |task| task.status = Status::Paused)),
        Status::Paused => Err(Refusal::Unchanged),
        status => Err(refuse(status, Action::Pause)),
    }
}

/// Due at once if its time has passed.
pub(super) fn resume(task: &Task, now: Timestamp) -> Result<Change, Refusal> {
    match task.status {
        Status::Paused if task.is_expired(now) => Ok(expire(task, now)),
        Status::Paused => Ok(changed(task, |task| {
            age::leave_out(task, now.since(task.due_at));
            schedule(task, task.due_at.max(now));
        })),
        status => Err(refuse(status, Action::Resume)),
    }
}

/// The attempt counter is kept; a paused task stays paused.
pub(super) fn postpone(task: &Task, execute_at: Timestamp, now: Timestamp) -> Result<Change, Refusal> {
    match task.status {
        Status::Scheduled | Status::Queued | Status::Paused => Ok(moved(task, execute_at, now)),
        status => Err(refuse(status, Action::Postpone)),
    }
}

pub(super) fn reset(
    task: &Task,
    execute_at: Timestamp,
    payload: Option<&Bytes>,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let restart = |task: &mut Task| {
        if let Some(payload) = payload {
            task.payload = Some(payload.clone());
        }
        task.failed_attempts = 0;
        // The token of an earlier attempt completes nothing of the new promise.
        task.token = None;
        // Of cancel and reset the later counts; a cancel's flag may have come along to awaiting.
        task.cancel_requested = false;
    };
    match task.status {
        Status::Scheduled | Status::Queued | Status::Paused => {
            let mut change = moved(task, execute_at, now);
            restart(&mut change.task);
            Ok(change)
        }
        Status::Executing => {
            let mut change = changed(task, |task| {
                // Of cancel and reset the later counts.
                task.cancel_requested = false;
                task.extra_mut().next = Some(NextRun { execute_at, payload: payload.cloned() });
            });
            change.outcome_detail = OutcomeDetail::AfterCurrent;
            Ok(change)
        }
        Status::Awaiting => Ok(close_awaited(task, OutcomeKind::Reset, now, |task| {
            restart(task);
            renew(task, execute_at, now);
        })),
        Status::Ended => Err(Refusal::AlreadyEnded),
    }
}

pub(super) fn run(task: &Task, now: Timestamp) -> Result<Change, Refusal> {
    match task.status {
        Status::Scheduled | Status::Paused if task.is_expired(now) => Ok(expire(task, now)),
        Status::Scheduled | Status::Paused => Ok(changed(task, |task| due_now(task, now))),
        Status::Queued => Err(Refusal::Unchanged),
        status => Err(refuse(status, Action::Run)),
    }
}

pub(super) fn cancel(task: &Task, now: Timestamp) -> Result<Change, Refusal> {
    match task.status {
        Status::Scheduled | Status::Queued | Status::Paused => {
            Ok(changed(task, |task| end(task, EndResult::Cancelled, now)))
        }
        Status::Awaiting => Ok(close_awaited(task, OutcomeKind::Cancelled, now, |task| {
            end(task, EndResult::Cancelled, now);
        })),
        Status::Executing => {
            let mut change = changed(task, |task| {
                task.cancel_requested = true;
                if let Some(extra) = &mut task.extra {
                    extra.next = None;
                }
            });
            change.outcome_detail = OutcomeDetail::TooLate;
            Ok(change)
        }
        Status::Ended => Err(Refusal::AlreadyEnded),
    }
}

/// Same id, attempt numbers go on, no failed attempts.
pub(super) fn replay(task: &Task, now: Timestamp) -> Result<Change, Refusal> {
    if task.status != Status::Ended {
        return Err(refuse(task.status, Action::Replay));
    }
    Ok(changed(task, |task| {
        task.result = None;
        task.ended_at = None;
        task.token = None;
        task.failed_attempts = 0;
        task.worker_losses = 0;
        // It was promised again: an expiry that has passed must not end it at once.
        task.expire_after = None;
        task.execute_at = task.execute_at.min(now);
        task.age_from = now;
        schedule(task, now);
    }))
}

/// An operator's "now" is a new promise, so no callback comes before `execute_at`.
fn due_now(task: &mut Task, now: Timestamp) {
    task.execute_at = task.execute_at.min(now);
    age::due_now(task, now);
    schedule(task, now);
}

fn moved(task: &Task, execute_at: Timestamp, now: Timestamp) -> Change {
    changed(task, |task| {
        let paused = task.status == Status::Paused;
        renew(task, execute_at, now);
        if paused {
            task.status = Status::Paused;
        }
    })
}

fn refuse(status: Status, action: Action) -> Refusal {
    match status {
        Status::Ended if action != Action::Replay => Refusal::AlreadyEnded,
        _ => Refusal::NotAllowed { status, action },
    }
}
