//! A schedule as a whole.

use super::misfire::FIRE_ALL_MAX;
use super::{CronSpec, Every, Misfire, MisfirePolicy, Overlap, ScheduleError};
use crate::time::{Millis, Timestamp};

/// When a config fires, and what happens to slots that cannot be handled as they come (DESIGN.md 5.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    pub trigger: Trigger,
    /// No slot before it exists; inclusive.
    pub start_at: Option<Timestamp>,
    /// No slot after it exists; inclusive.
    pub end_at: Option<Timestamp>,
    pub misfire: Misfire,
    pub overlap: Overlap,
}

/// What makes the slots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trigger {
    Cron(CronSpec),
    Every(Every),
}

impl Schedule {
    /// A schedule with the default policies and no bounds.
    pub fn new(trigger: Trigger) -> Self {
        Self {
            trigger,
            start_at: None,
            end_at: None,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
        }
    }

    /// Everything that is wrong with the values, whoever put them together; empty when it is sound.
    ///
    /// Whether it ever fires is another question, see [`Self::next_after`].
    pub fn validate(&self) -> Vec<ScheduleError> {
        let mut problems = Vec::new();
        if let Trigger::Every(every) = &self.trigger
            && let Err(problem) = every.check()
        {
            problems.push(problem);
        }
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && start > end
        {
            let message = format!("must not be before `start_at`, which is {start}");
            problems.push(ScheduleError::new("end_at", message));
        }
        if let MisfirePolicy::FireAll { max } = self.misfire.policy
            && !(1..=FIRE_ALL_MAX).contains(&max)
        {
            let message = format!("must be 1 to {FIRE_ALL_MAX}, is {max}; for example `10`");
            problems.push(ScheduleError::new("misfire.max", message));
        }
        if self.misfire.grace < Millis::ZERO {
            problems.push(ScheduleError::new("misfire.grace", "must not be negative; for example `1h`"));
        }
        problems
    }

    /// The first slot strictly after `after`, within `start_at` and `end_at`.
    ///
    /// `None` when a schedule is saved means that it never fires, which is to be refused; `None` after a
    /// slot means that it is completed (cron reference, section 7). Costs microseconds; a millisecond where
    /// every slot of centuries lies in a gap of the clock.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.start_at.map_or(after, |start| after.max(just_before(start)));
        if self.end_at.is_some_and(|end| after >= end) {
            return None;
        }
        let next = match &self.trigger {
            Trigger::Cron(spec) => spec.next_after(after),
            Trigger::Every(every) => every.next_after(after),
        }?;
        self.end_at.is_none_or(|end| next <= end).then_some(next)
    }

    /// The first slot at or after `from`.
    pub(super) fn next_from(&self, from: Timestamp) -> Option<Timestamp> {
        self.next_after(just_before(from))
    }
}

/// The last instant before `at`.
fn just_before(at: Timestamp) -> Timestamp {
    at.minus(Millis::from_ms(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn every_10_s() -> Schedule {
        Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: Timestamp::ZERO }))
    }

    #[test]
    fn both_bounds_are_inclusive() {
        let schedule = Schedule { start_at: Some(at(20_000)), end_at: Some(at(40_000)), ..every_10_s() };
        assert_eq!(schedule.next_after(at(-5)), Some(at(20_000)));
        assert_eq!(schedule.next_after(at(20_000)), Some(at(30_000)));
        assert_eq!(schedule.next_after(at(39_999)), Some(at(40_000)));
        assert_eq!(schedule.next_after(at(40_000)), None);
        assert_eq!(schedule.next_from(at(40_000)), Some(at(40_000)));
        let empty = Schedule { start_at: Some(at(21_000)), end_at: Some(at(29_000)), ..every_10_s() };
        assert_eq!(empty.next_after(Timestamp::ZERO), None);
    }

    #[test]
    fn names_every_bad_value() {
        assert!(every_10_s().validate().is_empty());
        let schedule = Schedule {
            trigger: Trigger::Every(Every { interval: Millis::ZERO, anchor: Timestamp::ZERO }),
            start_at: Some(at(2)),
            end_at: Some(at(1)),
            misfire: Misfire { policy: MisfirePolicy::FireAll { max: 0 }, grace: Millis::from_ms(-1) },
            overlap: Overlap::Allow,
        };
        let fields: Vec<_> = schedule.validate().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["interval", "end_at", "misfire.max", "misfire.grace"]);
        assert_eq!(schedule.next_after(Timestamp::ZERO), None);
    }

    #[test]
    fn ends_of_time_are_no_slots() {
        let cron = CronSpec::parse("* * * * * ?", None, "UTC").unwrap();
        for schedule in [every_10_s(), Schedule::new(Trigger::Cron(cron))] {
            assert_eq!(schedule.next_after(Timestamp::MAX), None);
            let _ = schedule.next_after(at(i64::MIN));
        }
    }
}
