//! Random steps for [`super::model_test`]: good ones, faults and operators, with right and wrong messages,
//! rows and tokens.

use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::schedule::Overlap;
use tsp_core::transition::{Completion, ProgressReport};
use tsp_core::{Millis, Timestamp};
use tsp_store::catalog::Hold;
use tsp_store::tasks::TaskCommand;

use super::fixture::{T0, TOKEN};

/// One step of both, in numbers that each side takes modulo what it has.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Wait(Millis),
    Submit { config: usize, key: Option<usize>, policy: OnDuplicateKey, offset: Millis, expires: bool },
    Claim { config: usize, limit: usize, ahead: Millis },
    Begin { message: usize, with_row: bool },
    Finish { begun: usize, with_row: bool, outcome: usize },
    Release { message: usize },
    ReturnToScheduled { message: usize },
    MarkWorkerLost { begun: usize },
    EndWaits,
    Change { task: usize, command: TaskCommand },
    ChangeByKey { config: usize, key: usize, command: TaskCommand },
    Hold { config: usize, hold: Hold },
    Save { config: usize, edit: Edit, expected: KnownVersion },
    Delete { config: usize, expected: KnownVersion },
    Fire(FireStep),
    CancelOpen { config: usize },
    RetentionDrop,
}

/// What a save changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit {
    Priority(u8),
    Kind,
    /// Of the scheduled config, whose tasks are on one shard whatever its span is.
    Span(u16),
    Scheduled(bool),
}

/// What somebody takes for the stored version of a config.
#[derive(Debug, Clone, Copy)]
pub(super) enum KnownVersion {
    Any,
    Absent,
    Right,
    Wrong,
}

/// Slots by their distance from now, in steps of ten seconds: now and then one that was handled before.
#[derive(Debug, Clone)]
pub(super) struct FireStep {
    pub(super) slots: Vec<i64>,
    pub(super) brings_waiting: bool,
    pub(super) overlap: Overlap,
    pub(super) late: bool,
    pub(super) ends: bool,
    /// Of cursor and config.
    pub(super) stale: (bool, bool),
}

/// The config with a schedule; those before it have none.
pub(super) const SCHEDULED: usize = 2;

/// A small generator of numbers (splitmix64), so that a seed is a history.
pub(super) struct CommandRng(pub(super) u64);

impl CommandRng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or(0)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn seconds(&mut self, from: i64, to: i64) -> Millis {
        let width = usize::try_from(to - from).unwrap_or(1);
        Millis::from_secs(from + i64::try_from(self.below(width)).unwrap_or(0))
    }

    /// Up to a second and a half: around what a begin waits for.
    fn moment(&mut self) -> Millis {
        Millis::from_ms(i64::try_from(self.below(1_500)).unwrap_or(0))
    }

    pub(super) fn step(&mut self) -> Step {
        let config = self.below(SCHEDULED);
        let any_config = self.below(SCHEDULED + 1);
        match self.below(120) {
            0..6 => Step::Wait(self.seconds(0, 90)),
            6..10 => Step::Wait(self.moment()),
            10..28 => {
                let policies = [OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add];
                let key = Some(self.below(4)).filter(|_| !self.one_in(4));
                let offset = if self.one_in(2) { self.moment() } else { self.seconds(-30, 60) };
                let expires = self.one_in(4);
                Step::Submit { config, key, policy: policies[self.below(3)], offset, expires }
            }
            28..42 => {
                let ahead = if self.one_in(2) { Millis::from_secs(2) } else { Millis::ZERO };
                Step::Claim { config: any_config, limit: self.below(4), ahead }
            }
            42..58 => Step::Begin { message: self.recent(), with_row: self.one_in(2) },
            58..70 => Step::Finish { begun: self.recent(), with_row: self.one_in(2), outcome: self.below(9) },
            70 => Step::Release { message: self.recent() },
            71 => Step::ReturnToScheduled { message: self.recent() },
            72..74 => Step::MarkWorkerLost { begun: self.recent() },
            74 => Step::EndWaits,
            75..90 => Step::Change { task: self.below(1_000), command: self.command() },
            90..95 => Step::ChangeByKey { config, key: self.below(4), command: self.command() },
            95..98 => {
                let note = Some("a note".to_owned()).filter(|_| self.one_in(2));
                let holds = [Hold::Pause { note }, Hold::Disable, Hold::Resume, Hold::Enable];
                let which = self.below(6);
                let hold = holds[if which > 3 { which - 2 } else { which }].clone();
                Step::Hold { config: any_config, hold }
            }
            98 => Step::CancelOpen { config: any_config },
            99 => Step::RetentionDrop,
            100..104 => {
                Step::Save { config: any_config, edit: self.edit(any_config), expected: self.known() }
            }
            104 => Step::Delete { config: any_config, expected: self.known() },
            _ => Step::Fire(self.fire()),
        }
    }

    fn edit(&mut self, config: usize) -> Edit {
        match self.below(6) {
            0 => Edit::Kind,
            1 | 2 if config == SCHEDULED => Edit::Span(if self.one_in(2) { 1 } else { 2 }),
            3 if config == SCHEDULED => Edit::Scheduled(false),
            4 if config == SCHEDULED => Edit::Scheduled(true),
            priority => Edit::Priority(u8::try_from(priority).unwrap_or(0)),
        }
    }

    fn known(&mut self) -> KnownVersion {
        let known = [
            KnownVersion::Any,
            KnownVersion::Right,
            KnownVersion::Right,
            KnownVersion::Wrong,
            KnownVersion::Absent,
        ];
        known[self.below(known.len())]
    }

    fn fire(&mut self) -> FireStep {
        let mut slots: Vec<i64> =
            (0..self.below(4)).map(|_| i64::try_from(self.below(5)).unwrap_or(0) - 2).collect();
        slots.sort_unstable();
        let overlaps = [Overlap::Allow, Overlap::Skip, Overlap::QueueOne, Overlap::QueueOne];
        FireStep {
            slots,
            brings_waiting: self.one_in(2),
            overlap: overlaps[self.below(overlaps.len())],
            late: self.one_in(4),
            ends: self.one_in(8),
            stale: (self.one_in(8), self.one_in(8)),
        }
    }

    /// Counted from the newest: old messages are mostly stale.
    fn recent(&mut self) -> usize {
        let reach = if self.one_in(4) { 100 } else { 3 };
        self.below(reach)
    }

    fn command(&mut self) -> TaskCommand {
        let token = if self.one_in(4) { [8; 32] } else { TOKEN };
        let message = Some("a word".to_owned()).filter(|_| self.one_in(2));
        match self.below(12) {
            0 => TaskCommand::Cancel,
            1 => TaskCommand::Pause,
            2 | 3 => TaskCommand::Resume,
            4 => TaskCommand::Run,
            5 => TaskCommand::Postpone { execute_at: T0.plus(self.seconds(-60, 900)) },
            6 | 7 => TaskCommand::Replay,
            8 => TaskCommand::Complete {
                token,
                completion: Completion::Done { message },
                jitter_fraction: 0.5,
            },
            9 => TaskCommand::Complete {
                token,
                completion: Completion::Fail { message },
                jitter_fraction: 0.5,
            },
            10 => TaskCommand::Complete {
                token,
                completion: Completion::Retry { after: None, message },
                jitter_fraction: 0.5,
            },
            _ => {
                let extend = Some(self.seconds(0, 90)).filter(|_| self.one_in(2));
                let report = ProgressReport { percent: Some(50), message, extend };
                TaskCommand::Progress { token, report }
            }
        }
    }
}

/// The outcome of that number.
pub(super) fn verdict(number: usize, now: Timestamp) -> Verdict {
    let outcome = match number {
        0 | 1 => Outcome::Done,
        2 => Outcome::Fail,
        3 => Outcome::Snooze { until: now.plus(Millis::from_secs(20)) },
        4..7 => Outcome::Accepted,
        _ => Outcome::Retry(RetryDelay::Backoff),
    };
    let mut verdict = Verdict::new(outcome, "told").with_status(200);
    verdict.excerpt = number.is_multiple_of(2).then(|| "an answer".into());
    verdict
}
