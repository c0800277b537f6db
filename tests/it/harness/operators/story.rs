//! What an operator did with a task, step by step, and what was promised by each answer.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;
use tsp_core::Timestamp;

use super::asking::CallAnswer;

#[derive(Debug)]
pub(super) enum OperatorCommand {
    Submit { due: Timestamp },
    Cancel,
    Postpone { to: Timestamp },
    Reset { to: Timestamp },
    Pause,
    Resume,
    Replay,
    PauseConfig,
    ResumeConfig,
    DeleteConfig { cancel_open: bool },
}

#[derive(Debug)]
pub(super) struct Act {
    pub(super) command: OperatorCommand,
    pub(super) asked: Arc<CallAnswer>,
}

/// One task and all that was done to it.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) task: String,
    pub(super) acts: Vec<Act>,
}

/// A time in which no call of the task begins.
#[derive(Debug)]
pub(super) struct Quiet {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) why: &'static str,
    pub(super) runs: Runs,
}

/// What may come all the same.
#[derive(Clone, Copy, Debug)]
pub(super) enum Runs {
    Nothing,
    /// This attempt, and what came before it.
    Attempt(u32),
    /// What had begun.
    Begun,
}

/// What follows from the answers.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) quiet: Vec<Quiet>,
    pub(super) results: Vec<String>,
    /// How many attempts come out as done.
    pub(super) done: RangeInclusive<u32>,
    /// An answer that is wrong by itself.
    pub(super) wrong: Option<String>,
}

impl Act {
    /// The one that the answer shows.
    fn attempt(&self) -> Runs {
        let shown = self.asked.body["task"]["attempt"].as_u64();
        Runs::Attempt(shown.and_then(|number| u32::try_from(number).ok()).unwrap_or(0))
    }
}

const EVER: Timestamp = Timestamp::from_ms(0);
const NEVER: Timestamp = Timestamp::from_ms(i64::MAX / 2);

impl Story {
    /// Whether somebody wanted it to end, and so a word of its receiver may have come too late.
    pub(super) fn has_cancel(&self) -> bool {
        self.acts.iter().any(|act| matches!(act.command, OperatorCommand::Cancel))
    }

    /// Whether a pause of it, or of its config, went unanswered: it may come when nobody expects it any more.
    pub(super) fn has_stray_pause(&self) -> bool {
        let pauses =
            |act: &&Act| matches!(act.command, OperatorCommand::Pause | OperatorCommand::PauseConfig);
        self.acts.iter().filter(pauses).any(|act| act.asked.unanswered > 0)
    }

    pub(super) fn has_lost_its_config(&self) -> bool {
        self.acts.iter().any(|act| matches!(act.command, OperatorCommand::DeleteConfig { .. }))
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = u32> {
        self.acts.iter().map(|act| act.asked.unanswered)
    }

    pub(super) fn promise(&self) -> Promise {
        let results = vec!["succeeded".to_owned()];
        let mut promise = Promise { quiet: Vec::new(), results, done: 1..=1, wrong: None };
        for (at, act) in self.acts.iter().enumerate() {
            // Whatever is asked next may let it go.
            let next = self.acts.get(at + 1).map_or(NEVER, |next| next.asked.since);
            promise.follow(act, next);
        }
        if self
            .acts
            .iter()
            .any(|act| matches!(act.command, OperatorCommand::Cancel) && act.asked.unanswered > 0)
        {
            promise.or_cancelled();
        }
        promise
    }
}

impl Promise {
    fn quiet(&mut self, act: &Act, to: Timestamp, why: &'static str, runs: Runs) {
        self.quiet.push(Quiet { from: act.asked.at, to, why, runs });
    }

    fn refuse(&mut self, act: &Act) {
        self.wrong.get_or_insert_with(|| format!("{:?} was answered {}", act.command, act.asked.body));
    }

    fn follow(&mut self, act: &Act, next: Timestamp) {
        let CallAnswer { status, unanswered, .. } = *act.asked;
        match (&act.command, status) {
            (OperatorCommand::Submit { due }, 200 | 201) => {
                let (to, why) = ((*due).min(next), "before its time");
                self.quiet.push(Quiet { from: EVER, to, why, runs: Runs::Nothing });
            }
            (OperatorCommand::Cancel, 200) => self.cancelled(act, next),
            (OperatorCommand::Postpone { to }, 200) => {
                self.quiet(act, (*to).min(next), "before its new time", Runs::Nothing);
            }
            (OperatorCommand::Reset { to }, 200) => self.reset(act, (*to).min(next)),
            (OperatorCommand::Pause, 200) => self.quiet(act, next, "while it was paused", Runs::Nothing),
            (OperatorCommand::PauseConfig, 200) => {
                self.quiet(act, next, "while its config was paused", Runs::Begun);
            }
            (OperatorCommand::DeleteConfig { cancel_open }, _) => self.deleted(act, *cancel_open),
            (OperatorCommand::Replay, 200) => {
                self.done = self.done.start() + 1..=self.done.end() + 1 + unanswered;
                self.results = vec!["succeeded".to_owned()];
            }
            // The try that was not answered has opened it again.
            (OperatorCommand::Replay, 409) if unanswered > 0 => {
                self.done = self.done.start() + 1..=self.done.end() + unanswered;
                self.results = vec!["succeeded".to_owned()];
            }
            // Too late, as it runs or has ended; released; or not everywhere yet: nothing is promised.
            (OperatorCommand::Postpone { .. } | OperatorCommand::Pause, 409)
            | (OperatorCommand::Resume | OperatorCommand::ResumeConfig, 200)
            | (OperatorCommand::PauseConfig | OperatorCommand::ResumeConfig, 202) => {}
            (OperatorCommand::Resume, 409) if unanswered > 0 => {}
            _ => self.refuse(act),
        }
    }

    fn cancelled(&mut self, act: &Act, next: Timestamp) {
        let body = &act.asked.body;
        match body["outcome"].as_str() {
            Some("cancelled") => {
                self.quiet(act, next, "after it was cancelled", Runs::Nothing);
                (self.results, self.done) = (vec!["cancelled".to_owned()], 0..=0);
            }
            // Its attempt is the last one.
            Some("too_late") => {
                self.quiet(act, next, "after its last attempt", act.attempt());
                self.or_cancelled();
            }
            Some("already_ended") => {
                self.quiet(act, next, "after it had ended", Runs::Nothing);
                let result = body["task"]["result"].as_str().unwrap_or("none").to_owned();
                if result == "cancelled" && act.asked.unanswered > 0 {
                    self.done = 0..=0;
                } else if result != "succeeded" {
                    self.refuse(act);
                }
                self.results = vec![result];
            }
            _ => self.refuse(act),
        }
    }

    /// One more way in which it may end.
    fn or_cancelled(&mut self) {
        self.results.push("cancelled".to_owned());
        self.done = 0..=*self.done.end();
    }

    fn reset(&mut self, act: &Act, to: Timestamp) {
        let body: &Value = &act.asked.body;
        let after_current = body["after_current"] == true;
        match body["result"].as_str() {
            Some("reset") => {
                let runs = if after_current { act.attempt() } else { Runs::Nothing };
                self.quiet(act, to, "before its new time", runs);
            }
            _ => self.refuse(act),
        }
        if after_current {
            // What runs may come out as done, and comes once more all the same.
            self.done = *self.done.start()..=self.done.end() + 1;
        }
    }

    fn deleted(&mut self, act: &Act, cancel_open: bool) {
        match act.asked.status {
            204 => self.quiet(act, NEVER, "after its config was deleted", Runs::Nothing),
            // By a try that was not answered, or not everywhere yet.
            202 | 404 => {}
            _ => self.refuse(act),
        }
        if cancel_open {
            self.or_cancelled();
        }
    }
}
