//! The clock of a server alone: its own monotonic time, led by the machine's clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Clock;
use crate::time::{Millis, Timestamp};

/// A step that is longer than this is not believed at once.
const STEP_BELIEVED: Millis = Millis::from_secs(1);
/// Beside it the machine's clock may differ in pace from monotonic time by one part in so many: its own correction.
const PACE: i64 = 10;
/// So long must a step last before it counts.
const STEP_LASTS: Millis = Millis::from_secs(60);
/// Two readings within this belong together.
const READING_US: u64 = 10_000;
/// How often they are tried.
const READINGS_MAX: usize = 3;

/// Follows the machine's clock, and never goes back (DESIGN.md section 2, promise 2).
///
/// A step ahead makes tasks early if it is a mistake, and when it is corrected nothing would be due for its
/// length. So a step counts after it has lasted a minute. Until then, after one ahead, time goes on as before:
/// tasks are late by it at worst. After one back the clock stands still, because it must not be ahead of the
/// machine's, until that has caught up or is corrected.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    lead: Mutex<Lead>,
}

impl SystemClock {
    #[expect(clippy::new_without_default, reason = "only the wiring makes one")]
    #[expect(clippy::disallowed_methods, reason = "the time between readings of the wall clock")]
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, lead: Mutex::new(Lead::at(0, wall_us())) }
    }

    /// What the machine's clock says, believed or not.
    pub fn machine(&self) -> Timestamp {
        Timestamp::from_ms(wall_us().div_euclid(1_000))
    }

    /// Monotonic time and the machine's clock at about the same moment, in microseconds. `offset` is how they last
    /// differed: where they still do, nothing came between the readings.
    fn read(&self, offset: i64) -> (i64, i64) {
        let mut before = self.start.elapsed();
        for _ in 0..READINGS_MAX {
            let wall_us = wall_us();
            if wall_us.saturating_sub(micros(before)).abs_diff(offset) <= READING_US {
                return (micros(before), wall_us);
            }
            let after = self.start.elapsed();
            if after.saturating_sub(before) <= Duration::from_micros(READING_US) {
                return (micros(after), wall_us);
            }
            before = after;
        }
        (micros(before), wall_us())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let mut lead = self.lead.lock().unwrap_or_else(PoisonError::into_inner);
        let (monotonic_us, wall_us) = self.read(lead.offset);
        Timestamp::from_ms(lead.follow(monotonic_us, wall_us).div_euclid(1_000))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// How the machine's clock leads monotonic time. Everything is in microseconds.
#[derive(Debug)]
struct Lead {
    /// The last reading of monotonic time.
    read_at: i64,
    /// The machine's clock less monotonic time, as far as it is believed.
    offset: i64,
    /// A step that is not believed yet: what the offset would be, and since when.
    step: Option<(i64, i64)>,
    highest: i64,
}

impl Lead {
    const fn at(monotonic: i64, wall: i64) -> Self {
        Self { read_at: monotonic, offset: wall.saturating_sub(monotonic), step: None, highest: wall }
    }

    fn follow(&mut self, monotonic: i64, wall: i64) -> i64 {
        let passed = monotonic.saturating_sub(self.read_at).max(0);
        self.read_at = self.read_at.max(monotonic);
        let offset = wall.saturating_sub(monotonic);
        let is_near = |other: i64| {
            offset.saturating_sub(other).saturating_abs()
                <= (STEP_BELIEVED.ms() * 1_000).saturating_add(passed / PACE)
        };
        let since = self.step.filter(|(step, _)| is_near(*step)).map_or(monotonic, |(_, since)| since);
        if is_near(self.offset) || monotonic.saturating_sub(since) >= STEP_LASTS.ms() * 1_000 {
            (self.offset, self.step) = (offset, None);
        } else {
            self.step = Some((offset, since));
        }
        self.highest = self.highest.max(wall.min(monotonic.saturating_add(self.offset)));
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;
    const WALL: i64 = 1_800_000_000 * SECOND;

    /// A clock read each second while the machine's clock is `wrong_by`.
    struct Fixture {
        lead: Lead,
        monotonic: i64,
        wrong_by: i64,
    }

    impl Fixture {
        fn new() -> Self {
            Self { lead: Lead::at(0, WALL), monotonic: 0, wrong_by: 0 }
        }

        fn wall(&self) -> i64 {
            WALL + self.monotonic + self.wrong_by
        }

        /// The last reading.
        fn pass(&mut self, seconds: i64) -> i64 {
            let mut now = self.lead.highest;
            for _ in 0..seconds {
                self.monotonic += SECOND;
                now = self.lead.follow(self.monotonic, self.wall());
            }
            now
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is what is tested")]
    fn says_what_the_machine_says() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.pass(10), fixture.wall());
        fixture.wrong_by = 900_000;
        assert_eq!(fixture.pass(1), fixture.wall(), "a small step is followed at once");
        let mut clock = SystemClock::new();
        clock.lead = Mutex::new(Lead::at(0, clock.machine().ms() * 1_000));
        assert!(clock.now() >= clock.machine().minus(Millis::from_secs(1)));
    }

    #[test]
    fn a_step_ahead_that_is_corrected_is_not_seen() {
        let mut fixture = Fixture::new();
        fixture.pass(5);
        for _ in 0..20 {
            fixture.wrong_by = HOUR;
            assert_eq!(fixture.pass(59), fixture.wall() - HOUR, "nothing is due early");
            fixture.wrong_by = 0;
            assert_eq!(fixture.pass(1), fixture.wall(), "and time goes on at once");
        }
    }

    #[test]
    fn a_step_ahead_that_lasts_counts() {
        let mut fixture = Fixture::new();
        fixture.wrong_by = HOUR;
        assert_eq!(fixture.pass(60), fixture.wall() - HOUR);
        assert_eq!(fixture.pass(1), fixture.wall());
        assert_eq!(fixture.pass(5), fixture.wall());
    }

    #[test]
    fn after_a_step_back_it_stands_still_until_that_has_caught_up() {
        let mut fixture = Fixture::new();
        let before = fixture.pass(5);
        fixture.wrong_by = -10 * SECOND;
        assert_eq!(fixture.pass(9), before);
        assert_eq!(fixture.pass(10), fixture.wall());
        fixture.wrong_by = -HOUR;
        fixture.pass(50);
        fixture.wrong_by = 0;
        assert_eq!(fixture.pass(1), fixture.wall(), "the step was a mistake");
        fixture.wrong_by = -HOUR;
        let stood = fixture.pass(100);
        fixture.wrong_by = 0;
        assert_eq!(fixture.pass(60), stood);
        assert_eq!(fixture.pass(1), fixture.wall(), "a way ahead like any other");
    }

    proptest! {
        #[test]
        fn never_goes_back_nor_ahead_of_all_that_the_machine_said(
            doings in prop::collection::vec((0_i64..100 * SECOND, -HOUR..HOUR), 1..50),
        ) {
            let mut fixture = Fixture::new();
            let (mut before, mut most) = (WALL, WALL);
            for (passed, wrong_by) in doings {
                fixture.monotonic += passed;
                fixture.wrong_by = wrong_by;
                let now = fixture.lead.follow(fixture.monotonic, fixture.wall());
                // What was believed goes on with monotonic time.
                most = fixture.wall().max(most + passed);
                prop_assert!(now >= before && now <= most);
                before = now;
            }
        }
    }
}
