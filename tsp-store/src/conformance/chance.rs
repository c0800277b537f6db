//! Random steps for [`super::twin`]: good ones, faults and people, with right and wrong messages, rows and
//! tokens.

use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::transition::{Completion, ProgressReport};
use tsp_core::{Millis, Timestamp};

use super::bed::{T0, TOKEN};
use crate::catalog::Hold;
use crate::tasks::Wish;

/// One step of both, in numbers that each side takes modulo what it has.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Wait(Millis),
    Submit { config: usize, key: Option<usize>, policy: OnDuplicateKey, offset: Millis, expires: bool },
    Claim { config: usize, limit: usize, ahead: Millis },
    Begin { message: usize, with_row: bool },
    Finish { begun: usize, with_row: bool, outcome: usize },
    Release { message: usize },
    Rearm { message: usize },
    Lose { begun: usize },
    EndWaits,
    Change { task: usize, wish: Wish },
    ChangeByKey { config: usize, key: usize, wish: Wish },
    Hold { config: usize, hold: Hold },
    CancelOpen { config: usize },
    Prune,
}

/// A small generator of numbers (splitmix64), so that a seed is a history.
pub(super) struct Chance(pub(super) u64);

impl Chance {
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
        let config = self.below(2);
        match self.below(100) {
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
                Step::Claim { config, limit: self.below(4), ahead }
            }
            42..58 => Step::Begin { message: self.recent(), with_row: self.one_in(2) },
            58..70 => Step::Finish { begun: self.recent(), with_row: self.one_in(2), outcome: self.below(9) },
            70 => Step::Release { message: self.recent() },
            71 => Step::Rearm { message: self.recent() },
            72..74 => Step::Lose { begun: self.recent() },
            74 => Step::EndWaits,
            75..90 => Step::Change { task: self.below(1_000), wish: self.wish() },
            90..95 => Step::ChangeByKey { config, key: self.below(4), wish: self.wish() },
            95..98 => {
                let holds = [Hold::Pause { note: None }, Hold::Disable, Hold::Resume, Hold::Enable];
                let which = self.below(6);
                Step::Hold { config, hold: holds[if which > 3 { which - 2 } else { which }].clone() }
            }
            98 => Step::CancelOpen { config },
            _ => Step::Prune,
        }
    }

    /// Counted from the newest: old messages are mostly stale.
    fn recent(&mut self) -> usize {
        let reach = if self.one_in(4) { 100 } else { 3 };
        self.below(reach)
    }

    fn wish(&mut self) -> Wish {
        let token = if self.one_in(4) { [8; 32] } else { TOKEN };
        let message = Some("a word".to_owned()).filter(|_| self.one_in(2));
        match self.below(12) {
            0 => Wish::Cancel,
            1 => Wish::Pause,
            2 | 3 => Wish::Resume,
            4 => Wish::Run,
            5 => Wish::Postpone { execute_at: T0.plus(self.seconds(-60, 900)) },
            6 | 7 => Wish::Replay,
            8 => Wish::Complete { token, completion: Completion::Done { message }, unit: 0.5 },
            9 => Wish::Complete { token, completion: Completion::Fail { message }, unit: 0.5 },
            10 => Wish::Complete { token, completion: Completion::Retry { after: None, message }, unit: 0.5 },
            _ => {
                let extend = Some(self.seconds(0, 90)).filter(|_| self.one_in(2));
                let report = ProgressReport { percent: Some(50), message, extend };
                Wish::Progress { token, report }
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
