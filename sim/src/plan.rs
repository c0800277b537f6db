//! What a history is like. A seed draws how often each act, command, answer and fault is, and some never.

use tsp_core::Millis;
use tsp_fetcher::WindowLimits;

use crate::broken::Bug;
use crate::rng::SeededRng;
use crate::weather::FaultRates;

/// Acts of the harness: time passes, fetch, begin, answer, finish, callers, crash or jump, upkeep.
pub(crate) const ACTS: [u64; 8] = [25, 20, 18, 15, 12, 9, 1, 1];
/// Acts of callers: submit, change, hold, edit, make or delete, look, complete.
pub(crate) const CALLS: [u64; 7] = [55, 37, 4, 2, 2, 4, 6];
/// Commands: cancel, pause, resume, postpone, run, replay, complete, progress.
pub(crate) const COMMANDS: [u64; 8] = [2, 1, 1, 1, 1, 1, 2, 1];
/// Answers: done, retry, retry after, park, fail, snooze, accepted.
pub(crate) const ANSWERS: [u64; 7] = [55, 15, 5, 4, 4, 6, 12];

/// Rates for the rng to pick by.
#[derive(Debug, Clone)]
pub struct Rates {
    pub(crate) acts: Vec<u64>,
    pub(crate) calls: Vec<u64>,
    pub(crate) commands: Vec<u64>,
    pub(crate) answers: Vec<u64>,
}

impl Rates {
    fn usual() -> Self {
        Self {
            acts: ACTS.to_vec(),
            calls: CALLS.to_vec(),
            commands: COMMANDS.to_vec(),
            answers: ANSWERS.to_vec(),
        }
    }

    fn drawn(rng: &SeededRng) -> Self {
        let mut acts = drawn(rng, &ACTS);
        // Where nobody does anything nothing happens.
        acts[5] = acts[5].max(9);
        Self {
            acts,
            calls: drawn(rng, &CALLS),
            commands: drawn(rng, &COMMANDS),
            answers: drawn(rng, &ANSWERS),
        }
    }
}

/// One in eight is left out, and the others are a quarter to four times as frequent as usual.
pub(crate) fn drawn(rng: &SeededRng, usual: &[u64]) -> Vec<u64> {
    let rates: Vec<u64> = usual.iter().map(|rate| rate * [0, 1, 2, 4, 4, 4, 8, 16][rng.index(8)]).collect();
    if rates.iter().all(|rate| *rate == 0) { usual.to_vec() } else { rates }
}

/// What a process is made with.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rows in one begin or finish.
    pub(crate) batch: usize,
    pub(crate) permits: (usize, usize),
    pub(crate) queue: usize,
    pub(crate) window: WindowLimits,
    pub(crate) pipe_timeout: Millis,
    pub(crate) lookahead: Millis,
}

impl Sizes {
    const fn ample(window: WindowLimits) -> Self {
        Self {
            batch: 8,
            permits: (1_000, 1_000),
            queue: 4_096,
            window,
            pipe_timeout: Millis::from_secs(3),
            lookahead: Millis::from_secs(1),
        }
    }

    /// So little room that every bound is met, and some rows are inline and some are not.
    pub(crate) fn drawn(rng: &SeededRng) -> Self {
        let few = |least: usize, most: usize| least + rng.index(most - least + 1);
        let permits = few(1, 12);
        let in_pipe_per_config = few(1, 10);
        Self {
            batch: few(1, 16),
            permits: (permits, few(1, permits)),
            queue: few(4, 40),
            window: WindowLimits {
                in_pipe_per_config,
                claimed_per_config: 2 * in_pipe_per_config,
                backlog_per_config: few(1, 10),
                claimed: few(16, 80),
                bytes_per_config: 4_096,
                bytes: 12_288,
            },
            pipe_timeout: Millis::from_ms(rng.ms(1_000, 4_000)),
            lookahead: Millis::from_ms(rng.ms(100, 1_500)),
        }
    }
}

/// What happens in a history.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Random acts before everything comes to rest.
    pub acts: usize,
    pub crashes: u32,
    pub lose_per_mille: u64,
    pub double_per_mille: u64,
    pub faults: FaultRates,
    /// Calls that last longer than it takes to compare what runs with the rows.
    pub slow_per_mille: u64,
    /// The most that the clock goes back or forward over a crash.
    pub clock_steps_ms: i64,
    /// Nothing holds a callback back: room for all, and nobody asks to wait.
    pub healthy: bool,
    pub rates: Rates,
    pub sizes: Sizes,
    /// A rule that is left out.
    pub bug: Option<Bug>,
}

impl Plan {
    /// Everything goes wrong now and then; what, and how often, depends on the seed.
    pub fn rough(seed: u64) -> Self {
        let rng = SeededRng::new(seed ^ 0x005e_ed0f_70ff);
        // One in three never happens.
        let some = |most: u64| if rng.below(3) == 0 { 0 } else { rng.below(most) };
        Self {
            seed,
            acts: 2_000,
            crashes: u32::try_from(rng.below(5)).unwrap_or(0),
            lose_per_mille: some(250),
            double_per_mille: some(250),
            faults: FaultRates {
                before: some(60),
                instead: some(40),
                after: some(60),
                late: some(60),
                cut: some(60),
                slow: some(300),
                split: some(1_000),
                focus: some(2) * rng.next(),
            },
            slow_per_mille: some(100),
            clock_steps_ms: i64::try_from(some(3) * 2_500).unwrap_or(0),
            healthy: false,
            rates: Rates::drawn(&rng),
            sizes: Sizes::drawn(&rng),
            bug: None,
        }
    }

    /// Nothing goes wrong.
    pub fn smooth(seed: u64) -> Self {
        Self {
            seed,
            acts: 1_500,
            crashes: 0,
            lose_per_mille: 0,
            double_per_mille: 0,
            faults: FaultRates::default(),
            slow_per_mille: 0,
            clock_steps_ms: 0,
            healthy: true,
            rates: Rates { calls: vec![55, 37, 0, 0, 0, 0, 0], ..Rates::usual() },
            sizes: Sizes::ample(WindowLimits::default()),
            bug: None,
        }
    }
}
