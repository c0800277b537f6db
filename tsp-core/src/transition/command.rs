//! What operators and receivers ask of one task.

use super::{Change, Completion, Event, ProgressReport, Refusal, Rules, transition};
use crate::config::TaskConfig;
use crate::task::{Task, TokenHash};
use crate::time::Timestamp;

/// What an operator or receiver asks for; [`Event`] without what the store knows itself.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskCommand {
    Cancel,
    Pause,
    Resume,
    Postpone {
        execute_at: Timestamp,
    },
    Run,
    Replay,
    /// `jitter_fraction`: a random number in `0.0..1.0` for the jitter of a retry.
    Complete {
        token: TokenHash,
        completion: Completion,
        jitter_fraction: f64,
    },
    Progress {
        token: TokenHash,
        report: ProgressReport,
    },
}

impl TaskCommand {
    /// What it makes of a row, by the row's config as it stands.
    pub fn decide(&self, row: &Task, config: Option<&TaskConfig>, now: Timestamp) -> Result<Change, Refusal> {
        let event = match self {
            Self::Cancel => Event::Cancel,
            Self::Pause => Event::Pause,
            Self::Resume => Event::Resume,
            Self::Postpone { execute_at } => Event::Postpone { execute_at: *execute_at },
            Self::Run => Event::Run,
            Self::Replay => Event::Replay,
            Self::Complete { token, completion, jitter_fraction } => Event::Complete {
                token,
                completion: completion.clone(),
                rules: Rules::of(config, *jitter_fraction),
            },
            Self::Progress { token, report } => {
                Event::Progress { token, report: report.clone(), rules: Rules::of(config, 0.0) }
            }
        };
        transition(row, &event, now)
    }

    /// Action and detail for the audit log; receivers are not operators.
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

    fn commands() -> [TaskCommand; 8] {
        [
            TaskCommand::Cancel,
            TaskCommand::Pause,
            TaskCommand::Resume,
            TaskCommand::Postpone { execute_at: after(300) },
            TaskCommand::Run,
            TaskCommand::Replay,
            TaskCommand::Complete {
                token: TOKEN,
                completion: Completion::Done { message: None },
                jitter_fraction: 0.5,
            },
            TaskCommand::Progress { token: TOKEN, report: ProgressReport::default() },
        ]
    }

    #[test]
    fn what_people_do_is_audited_by_its_name() {
        let audited: Vec<_> = commands().iter().filter_map(TaskCommand::audited).collect();
        let actions: Vec<_> = audited.iter().map(|(action, _)| *action).collect();
        let operator = ["cancel", "pause", "resume", "postpone", "run", "replay"];
        assert_eq!(actions, operator.map(|name| format!("task.{name}")));
        for (action, detail) in audited {
            let time = if action == "task.postpone" { format!("to {}", after(300)) } else { String::new() };
            assert_eq!(detail, time, "{action}");
        }
    }

    /// Its retries are those of the default policy, and nothing bounds a deadline.
    #[test]
    fn a_row_without_a_config_is_decided_all_the_same() {
        for row in each_state() {
            let allowed = |command: &TaskCommand| command.decide(&row, None, NOW).is_ok();
            assert!(commands().iter().any(allowed), "nothing can be done at {:?}", row.status);
        }
        let retry = Completion::Retry { after: None, message: None };
        let command = TaskCommand::Complete { token: TOKEN, completion: retry, jitter_fraction: 0.0 };
        let change = command.decide(&awaiting(), None, NOW).unwrap();
        assert_eq!(change.task.due_at, NOW.plus(secs(1)), "after the default backoff");
    }
}
