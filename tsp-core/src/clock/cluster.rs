//! The clock of a process in a cluster: its own monotonic time, led by the meta database's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Clock;
use super::monotonic::{MonotonicClock, MonotonicInstant};
use crate::time::{Millis, Timestamp};

/// How fast a difference is worked off: 10 ms in a second. Time never runs back, only slower or faster.
const SLEW_US_PER_MS: i64 = 10;
/// A first measurement with a longer round trip is made again.
pub const ROUND_TRIP_TRUSTED: Millis = Millis::from_ms(100);
/// How far two clocks may drift apart: what was proven a second ago is trusted less by so much.
const DRIFT_US_PER_SECOND: i64 = 100;
/// Both clocks are read in whole milliseconds.
const READING_US: i64 = 1_000;

/// Follows the meta database's clock as monotonic time plus a measured offset, slewed, never back (DESIGN.md
/// section 2, promise 2). It does not read the machine's clock at all, so no step of that can make a task
/// early. Nor can a slow answer: of all offsets that an answer allows it takes the least, so it is behind the
/// database's clock by the way back of the quickest answer, and never ahead of it.
///
/// Until it is measured for the first time it says 1970: nothing is due.
#[derive(Debug)]
pub struct ClusterClock {
    time: Arc<dyn MonotonicClock>,
    slew: RwLock<Option<Slew>>,
    highest_ms: AtomicI64,
}

/// One answer of the database: `remote` is what its clock said at some moment between `sent` and `received`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    pub remote: Timestamp,
    pub sent: MonotonicInstant,
    pub received: MonotonicInstant,
}

impl Measurement {
    pub const fn round_trip(&self) -> Millis {
        self.received.since(self.sent)
    }

    /// What the offset can be at all.
    const fn bounds_us(&self) -> (i64, i64) {
        let least = self.remote.ms().saturating_sub(self.received.ms()).saturating_mul(1_000);
        let most = self.remote.ms().saturating_sub(self.sent.ms()).saturating_mul(1_000);
        (least.saturating_sub(READING_US), most.saturating_add(READING_US))
    }

    const fn least_us(&self) -> i64 {
        self.bounds_us().0
    }
}

/// An offset on its way from `offset_us`, where it was at `from`, to `target_us`.
#[derive(Debug, Clone, Copy)]
struct Slew {
    from: MonotonicInstant,
    offset_us: i64,
    target_us: i64,
}

impl Slew {
    const fn steady(from: MonotonicInstant, offset_us: i64) -> Self {
        Self { from, offset_us, target_us: offset_us }
    }

    fn offset_us_at(self, moment: MonotonicInstant) -> i64 {
        let most = moment.since(self.from).ms().max(0).saturating_mul(SLEW_US_PER_MS);
        let way = self.target_us.saturating_sub(self.offset_us);
        self.offset_us.saturating_add(way.clamp(-most, most))
    }

    fn at(self, moment: MonotonicInstant) -> Timestamp {
        let us = moment.ms().saturating_mul(1_000).saturating_add(self.offset_us_at(moment));
        Timestamp::from_ms(us.div_euclid(1_000))
    }
}

impl ClusterClock {
    pub fn new(time: Arc<dyn MonotonicClock>) -> Self {
        Self { time, slew: RwLock::new(None), highest_ms: AtomicI64::new(0) }
    }

    /// The process's monotonic time.
    pub fn instant(&self) -> MonotonicInstant {
        self.time.instant()
    }

    pub fn time(&self) -> &Arc<dyn MonotonicClock> {
        &self.time
    }

    /// The service's time at a moment of the present or the near past, by what is known now. Unlike
    /// [`Clock::now`] it may go back after [`ClusterClock::restart`]: it is what the database would say.
    pub fn at(&self, moment: MonotonicInstant) -> Timestamp {
        self.read().map_or(Timestamp::ZERO, |slew| slew.at(moment))
    }

    /// Takes in the answer to a renewal. Returns by how much the service's time suddenly is ahead of what
    /// this clock says (negative: behind); zero as long as the round trip may explain the difference. The
    /// caller alarms and gives its leases back when that is too much; the clock itself only slews.
    pub fn measure(&self, seen: Measurement) -> Millis {
        let (least, most) = seen.bounds_us();
        let mut slew = self.slew.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = *slew else {
            *slew = Some(Slew::steady(seen.received, seen.least_us()));
            return Millis::ZERO;
        };
        let offset_us = known.offset_us_at(seen.received);
        let drift = seen.received.since(known.from).ms().max(0).saturating_mul(DRIFT_US_PER_SECOND) / 1_000;
        let kept = known.target_us.saturating_sub(drift);
        // More than is possible now: the database's clock has gone back, and what was proven before is void.
        let target_us = if kept > most { least } else { kept.max(least) };
        *slew = Some(Slew { from: seen.received, offset_us, target_us });
        Millis::from_ms(offset_us.clamp(least, most).saturating_sub(offset_us) / 1_000)
    }

    /// Begins again with this offset, for a process that holds no lease: forward at once; when the service's
    /// time has gone back, the clock stands still until that has caught up.
    pub fn restart(&self, seen: Measurement) {
        // What the clock has shown up to now stands, also if nobody asked for it in the last milliseconds.
        self.now();
        let begun = Slew::steady(seen.received, seen.least_us());
        *self.slew.write().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    fn read(&self) -> Option<Slew> {
        *self.slew.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ClusterClock {
    fn now(&self) -> Timestamp {
        let ms = self.at(self.time.instant()).ms();
        Timestamp::from_ms(self.highest_ms.fetch_max(ms, Ordering::AcqRel).max(ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualMonotonicClock;

    const EPOCH: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    struct Fixture {
        time: Arc<ManualMonotonicClock>,
        clock: ClusterClock,
        /// What the database's clock says at moment zero.
        remote: Timestamp,
    }

    impl Fixture {
        fn new() -> Self {
            let time = Arc::new(ManualMonotonicClock::new());
            Self { clock: ClusterClock::new(time.clone()), time, remote: EPOCH }
        }

        fn pass(&self, ms: i64) {
            self.time.advance(Millis::from_ms(ms));
        }

        fn truth(&self) -> Timestamp {
            self.remote.plus(Millis::from_ms(self.time.instant().ms()))
        }

        /// A question that takes `there` and `back` milliseconds.
        fn ask(&self, there: i64, back: i64) -> Measurement {
            let sent = self.time.instant();
            self.pass(there);
            let remote = self.truth();
            self.pass(back);
            Measurement { remote, sent, received: self.time.instant() }
        }
    }

    /// What a whole millisecond hides.
    const READING: Millis = Millis::from_ms(1);

    #[test]
    fn nothing_is_due_before_the_first_measurement() {
        let fixture = Fixture::new();
        fixture.pass(5_000);
        assert_eq!(fixture.clock.now(), Timestamp::ZERO);
        assert_eq!(fixture.clock.measure(fixture.ask(2, 0)), Millis::ZERO);
        assert_eq!(fixture.clock.now(), fixture.truth().minus(READING));
    }

    #[test]
    fn a_sudden_change_is_told_and_worked_off_slowly() {
        let mut fixture = Fixture::new();
        fixture.clock.restart(fixture.ask(0, 0));
        fixture.remote = fixture.remote.plus(Millis::from_ms(301));
        let told = fixture.clock.measure(fixture.ask(0, 0));
        assert!((300..=301).contains(&told.ms()), "{told:?}");
        fixture.pass(10_000);
        assert_eq!(fixture.truth().since(fixture.clock.now()), Millis::from_ms(202), "10 ms in each second");
        fixture.pass(21_000);
        assert_eq!(fixture.clock.now(), fixture.truth().minus(READING));
    }

    #[test]
    fn a_slow_answer_is_no_change_of_the_clock() {
        let fixture = Fixture::new();
        fixture.clock.restart(fixture.ask(1, 0));
        let before = fixture.clock.now().since(fixture.truth());
        assert_eq!(fixture.clock.measure(fixture.ask(3_000, 0)), Millis::ZERO);
        assert_eq!(fixture.clock.measure(fixture.ask(0, 3_000)), Millis::ZERO);
        fixture.pass(60_000);
        let after = fixture.clock.now().since(fixture.truth());
        assert!((0..=2).contains(&(before.ms() - after.ms())), "{before:?} became {after:?}");
    }

    #[test]
    fn the_quickest_answers_count() {
        let fixture = Fixture::new();
        fixture.clock.restart(fixture.ask(0, 40));
        assert_eq!(fixture.truth().since(fixture.clock.now()), Millis::from_ms(41));
        for back in [30, 2, 60, 25, 90] {
            fixture.clock.measure(fixture.ask(5, back));
            fixture.pass(1_000);
        }
        fixture.pass(5_000);
        let behind = fixture.truth().since(fixture.clock.now());
        assert!((3..=5).contains(&behind.ms()), "{behind:?} behind");
    }

    #[test]
    fn a_process_that_starts_again_takes_the_new_time_but_never_goes_back() {
        let mut fixture = Fixture::new();
        fixture.clock.restart(fixture.ask(0, 0));
        fixture.remote = fixture.remote.plus(Millis::from_secs(60));
        fixture.clock.restart(fixture.ask(0, 0));
        assert_eq!(fixture.clock.now(), fixture.truth().minus(READING), "forward at once");
        let before = fixture.clock.now();
        fixture.remote = fixture.remote.minus(Millis::from_secs(10));
        fixture.clock.restart(fixture.ask(0, 0));
        assert_eq!(fixture.clock.now(), before, "stands still");
        assert_eq!(fixture.clock.at(fixture.clock.instant()), fixture.truth().minus(READING));
        fixture.pass(10_500);
        assert_eq!(fixture.clock.now(), fixture.truth().minus(READING), "the service's time has caught up");
    }

    proptest! {
        /// Whatever the database's clock does: never back, and the pace of time changes by at most the slew.
        #[test]
        fn never_goes_back_and_slews_at_most_so_much(
            doings in prop::collection::vec((0_i64..5_000, 0_i64..4_000, 0_i64..4_000, -20_000_i64..20_000), 1..60),
        ) {
            let mut fixture = Fixture::new();
            fixture.clock.restart(fixture.ask(0, 0));
            for (wait, there, back, step) in doings {
                let (before, from) = (fixture.clock.now(), fixture.clock.instant());
                fixture.pass(wait);
                fixture.remote = fixture.remote.plus(Millis::from_ms(step));
                fixture.clock.measure(fixture.ask(there, back));
                let passed = fixture.clock.instant().since(from).ms();
                let shown = fixture.clock.now().since(before).ms();
                prop_assert!(shown >= 0, "went back by {shown}");
                let most = passed * SLEW_US_PER_MS / 1_000 + 1;
                prop_assert!((shown - passed).abs() <= most, "{shown} ms shown in {passed} ms");
            }
        }

        /// After the last change it reaches the truth, to within the way back of an answer.
        #[test]
        fn converges(step in -2_000_i64..2_000, trips in prop::collection::vec((0_i64..50, 0_i64..50), 250)) {
            let mut fixture = Fixture::new();
            fixture.clock.restart(fixture.ask(0, 0));
            fixture.remote = fixture.remote.plus(Millis::from_ms(step));
            for (there, back) in trips {
                fixture.clock.measure(fixture.ask(there, back));
                fixture.pass(1_000);
            }
            let error = fixture.clock.now().since(fixture.truth()).ms();
            prop_assert!((-60..=2).contains(&error), "{error} ms off");
        }

        /// No measurement, however slow or lopsided, takes it ahead of the database, and none is reported as
        /// a change of the clock.
        #[test]
        fn is_never_early(doings in prop::collection::vec((0_i64..5_000, 0_i64..6_000, 0_i64..6_000), 1..60)) {
            let fixture = Fixture::new();
            fixture.clock.restart(fixture.ask(0, 0));
            for (wait, there, back) in doings {
                fixture.pass(wait);
                let told = fixture.clock.measure(fixture.ask(there, back));
                // What is reported is the drift that was allowed for, over a thousand seconds at most.
                prop_assert!((0..=105).contains(&told.ms()), "told {told:?}");
                let ahead = fixture.clock.now().since(fixture.truth()).ms();
                prop_assert!(ahead <= 0, "{ahead} ms early");
            }
        }
    }
}
