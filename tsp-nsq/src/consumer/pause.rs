//! How a consumer that cannot work waits, and comes back: `docs/reference/nsq.md`, section 6.

use std::time::Duration;

use tokio::time::Instant;

const UNIT: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_mins(2);
/// More would not make the wait longer, only the way back.
const MAX_LEVEL: u32 = 7;

#[derive(Debug, Default)]
pub(super) struct Pause {
    level: u32,
    phase: Phase,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    Waiting(Instant),
    /// One message at a time shows whether it is over.
    Trying,
}

impl Pause {
    pub(super) fn failed(&mut self, now: Instant) {
        if !self.is_waiting() {
            self.level = (self.level + 1).min(MAX_LEVEL);
            self.wait(now);
        }
    }

    pub(super) fn succeeded(&mut self, now: Instant) {
        if self.phase != Phase::Trying {
            return;
        }
        self.level = self.level.saturating_sub(1);
        if self.level == 0 {
            self.phase = Phase::Running;
        } else {
            self.wait(now);
        }
    }

    /// Ends a wait that is over.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.until().is_some_and(|until| until <= now) {
            self.phase = Phase::Trying;
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// What is left of a `total` that may be in flight.
    pub(super) fn allowed(&self, total: u32) -> u32 {
        match self.phase {
            Phase::Running => total,
            Phase::Waiting(_) => 0,
            Phase::Trying => total.min(1),
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    fn wait(&mut self, now: Instant) {
        self.phase = Phase::Waiting(now + (UNIT * 2_u32.pow(self.level)).min(MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of the wait that `pause` is in, which is over afterwards.
    fn sit_out(pause: &mut Pause, now: &mut Instant) -> u64 {
        let until = pause.until().expect("waiting");
        let wait = until - *now;
        assert_eq!(pause.allowed(9), 0);
        *now = until;
        pause.tick(*now);
        assert_eq!(pause.allowed(9), 1);
        wait.as_secs()
    }

    #[test]
    fn waits_double_and_come_back_down() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        assert_eq!(pause.allowed(9), 9);
        let mut waits = Vec::new();
        for _ in 0..3 {
            pause.failed(now);
            waits.push(sit_out(&mut pause, &mut now));
        }
        for _ in 0..2 {
            pause.succeeded(now);
            waits.push(sit_out(&mut pause, &mut now));
        }
        pause.succeeded(now);
        assert_eq!(waits, [2, 4, 8, 4, 2]);
        assert!(pause.is_running());
        assert_eq!(pause.allowed(9), 9);
    }

    #[test]
    fn nothing_counts_during_a_wait() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        pause.failed(now);
        for _ in 0..5 {
            pause.failed(now);
            pause.succeeded(now);
            pause.tick(now);
        }
        assert_eq!(sit_out(&mut pause, &mut now), 2);
    }

    #[test]
    fn the_longest_wait_is_two_minutes_and_does_not_grow() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        for _ in 0..40 {
            pause.failed(now);
            sit_out(&mut pause, &mut now);
        }
        pause.failed(now);
        assert_eq!(sit_out(&mut pause, &mut now), 120);
        pause.succeeded(now);
        assert_eq!(sit_out(&mut pause, &mut now), 64);
    }

    #[test]
    fn a_consumer_that_is_paused_stays_so() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        pause.failed(now);
        pause.tick(now + MAX);
        assert_eq!(pause.allowed(0), 0);
    }
}
