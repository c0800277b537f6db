//! What the SQL back ends derive alike from a row, its config and a wish. The in-memory store has its own
//! words for this, because it is what they are compared with.

use tsp_core::config::TaskConfig;
use tsp_core::key::is_home;
use tsp_core::retry::RetryPolicy;
use tsp_core::task::{AttemptRecord, EndResult, Task};
use tsp_core::transition::{Change, Event, Refused, Rules, transition};
use tsp_core::{NodeId, Timestamp};

use crate::tasks::{Submitted, Wish};

/// Calls `decide` with what the row's config contributes.
pub(crate) fn with_rules<T>(
    config: Option<&TaskConfig>,
    unit: f64,
    decide: impl FnOnce(Rules<'_>) -> T,
) -> T {
    match config {
        Some(config) => {
            let deadline = Some(config.spec.asynchronous.deadline);
            decide(Rules { retry: &config.spec.retry, unit, deadline })
        }
        // A config with open tasks is not deleted; if one is gone all the same, its tasks still end.
        None => decide(Rules { retry: &RetryPolicy::default(), unit, deadline: None }),
    }
}

/// Why its config, as it stands, takes no such new task.
pub(crate) fn refused(task: &Task, config: Option<&TaskConfig>, shards: u16) -> Option<Submitted> {
    match config {
        None => Some(Submitted::ConfigGone),
        Some(config) if !config.spec.enabled => Some(Submitted::ConfigDisabled),
        Some(config) => {
            let home = is_home(task.config, task.key.as_ref(), config.spec.span, shards, task.id.shard());
            (!home).then_some(Submitted::NotAtHome)
        }
    }
}

/// What a wish makes of a row.
pub(crate) fn decide(
    row: &Task,
    wish: &Wish,
    config: Option<&TaskConfig>,
    now: Timestamp,
) -> Result<Change, Refused> {
    let event = match wish {
        Wish::Cancel => Event::Cancel,
        Wish::Pause => Event::Pause,
        Wish::Resume => Event::Resume,
        Wish::Postpone { execute_at } => Event::Postpone { execute_at: *execute_at },
        Wish::Run => Event::Run,
        Wish::Replay => Event::Replay,
        Wish::Complete { token, completion, unit } => {
            return with_rules(config, *unit, |rules| {
                let completion = completion.clone();
                transition(row, &Event::Complete { token, completion, rules }, now)
            });
        }
        Wish::Progress { token, report } => {
            return with_rules(config, 0.0, |rules| {
                transition(row, &Event::Progress { token, report: report.clone(), rules }, now)
            });
        }
    };
    transition(row, &event, now)
}

/// Action and detail for the audit log; callees are not persons.
pub(crate) fn audited(wish: &Wish) -> Option<(&'static str, String)> {
    let detail = match wish {
        Wish::Postpone { execute_at } => format!("to {execute_at}"),
        _ => String::new(),
    };
    let action = match wish {
        Wish::Cancel => "task.cancel",
        Wish::Pause => "task.pause",
        Wish::Resume => "task.resume",
        Wish::Postpone { .. } => "task.postpone",
        Wish::Run => "task.run",
        Wish::Replay => "task.replay",
        Wish::Complete { .. } | Wish::Progress { .. } => return None,
    };
    Some((action, detail))
}

/// One successful first attempt is in `history` itself and has no row of its own.
pub(crate) fn ended_at_first_try(task: &Task) -> bool {
    task.attempt == 1 && task.result == Some(EndResult::Succeeded)
}

/// The attempt that [`ended_at_first_try`] left out, as it would have been written.
pub(crate) fn only_attempt(task: &Task, node: Option<NodeId>) -> Option<AttemptRecord> {
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
