//! What people and receivers ask of one task.

use super::{Change, Completion, Event, ProgressReport, Refused, Rules, transition};
use crate::config::TaskConfig;
use crate::task::{Task, TokenHash};
use crate::time::Timestamp;

/// What a person or callee wants; [`Event`] without what the store knows itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    Cancel,
    Pause,
    Resume,
    Postpone {
        execute_at: Timestamp,
    },
    Run,
    Replay,
    /// `unit`: a random number in `0.0..1.0` for the jitter of a retry.
    Complete {
        token: TokenHash,
        completion: Completion,
        unit: f64,
    },
    Progress {
        token: TokenHash,
        report: ProgressReport,
    },
}

impl Wish {
    /// What it makes of a row, by the row's config as it stands.
    pub fn decide(&self, row: &Task, config: Option<&TaskConfig>, now: Timestamp) -> Result<Change, Refused> {
        let event = match self {
            Self::Cancel => Event::Cancel,
            Self::Pause => Event::Pause,
            Self::Resume => Event::Resume,
            Self::Postpone { execute_at } => Event::Postpone { execute_at: *execute_at },
            Self::Run => Event::Run,
            Self::Replay => Event::Replay,
            Self::Complete { token, completion, unit } => {
                Event::Complete { token, completion: completion.clone(), rules: Rules::of(config, *unit) }
            }
            Self::Progress { token, report } => {
                Event::Progress { token, report: report.clone(), rules: Rules::of(config, 0.0) }
            }
        };
        transition(row, &event, now)
    }

    /// Action and detail for the audit log; callees are not persons.
    pub fn audited(&self) -> Option<(&'static str, String)> {
        let action = match self {
            Self::Cancel => "task.cancel",
            Self::Pause => "task.pause",
            Self::Resume => "task.resume",
            Self::Postpone { execute_at } => return Some(("task.postpone", format!("to {execute_at}"))),
            Self::Run => "task.run",
            Self::Replay => "task.replay",
            Self::Complete { .. } | Self::Progress { .. } => return None,
        };
        Some((action, String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;

    fn wishes() -> [Wish; 8] {
        [
            Wish::Cancel,
            Wish::Pause,
            Wish::Resume,
            Wish::Postpone { execute_at: after(300) },
            Wish::Run,
            Wish::Replay,
            Wish::Complete { token: TOKEN, completion: Completion::Done { message: None }, unit: 0.5 },
            Wish::Progress { token: TOKEN, report: ProgressReport::default() },
        ]
    }

    #[test]
    fn what_people_do_is_audited_by_its_name() {
        let audited: Vec<_> = wishes().iter().filter_map(Wish::audited).collect();
        let actions: Vec<_> = audited.iter().map(|(action, _)| *action).collect();
        let people = ["cancel", "pause", "resume", "postpone", "run", "replay"];
        assert_eq!(actions, people.map(|name| format!("task.{name}")));
        for (action, detail) in audited {
            let time = if action == "task.postpone" { format!("to {}", after(300)) } else { String::new() };
            assert_eq!(detail, time, "{action}");
        }
    }

    /// Its retries are those of the default policy, and nothing bounds a deadline.
    #[test]
    fn a_row_without_a_config_is_decided_all_the_same() {
        for row in each_state() {
            let allowed = |wish: &Wish| wish.decide(&row, None, NOW).is_ok();
            assert!(wishes().iter().any(allowed), "nothing can be done at {:?}", row.status);
        }
        let retry = Completion::Retry { after: None, message: None };
        let wish = Wish::Complete { token: TOKEN, completion: retry, unit: 0.0 };
        let change = wish.decide(&awaiting(), None, NOW).unwrap();
        assert_eq!(change.task.due_at, NOW.plus(secs(1)), "after the default backoff");
    }
}
