//! Fixed intervals: slots at `anchor + n * interval` in UTC, so daylight saving does not touch them.

use super::ScheduleError;
use crate::duration::format_duration;
use crate::time::{Millis, Timestamp};

/// Shortest interval; what is faster is not a schedule but a loop.
pub const INTERVAL_MIN: Millis = Millis::from_secs(1);

/// Longest interval, ten years: as far ahead as a task may be submitted.
pub const INTERVAL_MAX: Millis = Millis::from_days(3_650);

/// A fixed interval. `n` is any whole number: the anchor sets the phase only, and it is `start_at` that
/// keeps slots from before a day from existing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Every {
    pub interval: Millis,
    /// API.md's default is [`Timestamp::ZERO`].
    pub anchor: Timestamp,
}

impl Every {
    /// # Errors
    /// An interval outside [`INTERVAL_MIN`] to [`INTERVAL_MAX`].
    pub fn new(interval: Millis, anchor: Timestamp) -> Result<Self, ScheduleError> {
        let every = Self { interval, anchor };
        every.check()?;
        Ok(every)
    }

    pub(super) fn check(&self) -> Result<(), ScheduleError> {
        if (INTERVAL_MIN..=INTERVAL_MAX).contains(&self.interval) {
            return Ok(());
        }
        Err(ScheduleError::new(
            "interval",
            format!(
                "must be `{}` to `{}`, is `{}`; for example `5s`",
                format_duration(INTERVAL_MIN),
                format_duration(INTERVAL_MAX),
                format_duration(self.interval)
            ),
        ))
    }

    /// The first slot strictly after `after`.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.slot(self.number_at(after)?.checked_add(1)?)
    }

    /// How many slots lie in `from ..= to`, and the newest `keep` of them, oldest first.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp, keep: usize) -> (u64, Vec<Timestamp>) {
        let before = Timestamp::from_ms(from.ms().saturating_sub(1));
        let (Some(before), Some(last)) = (self.number_at(before), self.number_at(to)) else {
            return (0, Vec::new());
        };
        let count = u64::try_from(last.saturating_sub(before)).unwrap_or(0);
        let kept = i64::try_from(keep).unwrap_or(i64::MAX).min(i64::try_from(count).unwrap_or(i64::MAX));
        let newest = (last - kept + 1..=last).filter_map(|n| self.slot(n)).collect();
        (count, newest)
    }

    /// The number of the newest slot at or before `at`; `None` for an interval that is none.
    fn number_at(&self, at: Timestamp) -> Option<i64> {
        if !self.interval.is_positive() {
            return None;
        }
        // Wider than 64 bits, because anchor and time may lie at opposite ends.
        let since = i128::from(at.ms()) - i128::from(self.anchor.ms());
        i64::try_from(since.div_euclid(i128::from(self.interval.ms()))).ok()
    }

    fn slot(&self, n: i64) -> Option<Timestamp> {
        let at = i128::from(self.anchor.ms()) + i128::from(n) * i128::from(self.interval.ms());
        i64::try_from(at).ok().map(Timestamp::from_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_from_the_anchor_in_both_directions() {
        let every = Every::new(Millis::from_secs(10), Timestamp::from_ms(3_000)).unwrap();
        for (after, next) in
            [(2_999, 3_000), (3_000, 13_000), (12_999, 13_000), (-7_000, 3_000), (-7_001, -7_000)]
        {
            assert_eq!(
                every.next_after(Timestamp::from_ms(after)),
                Some(Timestamp::from_ms(next)),
                "{after}"
            );
        }
        assert_eq!(every.next_after(Timestamp::MAX), None);
    }

    #[test]
    fn refuses_intervals_out_of_bounds() {
        for interval in [Millis::from_ms(-1), Millis::ZERO, Millis::from_ms(999), Millis::from_days(3_651)] {
            let error = Every::new(interval, Timestamp::ZERO).unwrap_err();
            assert_eq!(error.field, "interval");
            let every = Every { interval, anchor: Timestamp::ZERO };
            assert!(every.interval.is_positive() || every.next_after(Timestamp::ZERO).is_none());
        }
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_walking(
            interval in 1_000_i64..100_000, anchor in -1_000_000_i64..1_000_000,
            from in -500_000_i64..500_000, length in 0_i64..500_000, keep in 0_usize..20,
        ) {
            let every = Every::new(Millis::from_ms(interval), Timestamp::from_ms(anchor)).unwrap();
            let to = Timestamp::from_ms(from + length);
            let mut walked = Vec::new();
            let mut at = Timestamp::from_ms(from - 1);
            while let Some(next) = every.next_after(at) && next <= to {
                prop_assert!(next > at);
                walked.push(next);
                at = next;
            }
            let (count, newest) = every.between(Timestamp::from_ms(from), to, keep);
            prop_assert_eq!(usize::try_from(count).unwrap(), walked.len());
            prop_assert_eq!(newest, &walked[walked.len().saturating_sub(keep)..]);
        }

        #[test]
        fn no_overflow(interval in any::<i64>(), anchor in any::<i64>(), from in any::<i64>(), to in any::<i64>()) {
            let every = Every { interval: Millis::from_ms(interval), anchor: Timestamp::from_ms(anchor) };
            let _ = every.next_after(Timestamp::from_ms(from));
            let _ = every.between(Timestamp::from_ms(from), Timestamp::from_ms(to), 10);
        }
    }
}
