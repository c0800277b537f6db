//! Which slots become occurrences when a cursor is handled late (cron reference, section 9).

use std::collections::VecDeque;

use super::{Schedule, Trigger};
use crate::time::{Millis, Timestamp};

/// Most slots `fire_all` may make up for; they are made in one transaction.
pub const FIRE_ALL_MAX: u32 = 10_000;

/// Most slots of a cron expression that are counted one by one; a year behind on `*/5 * * * * ?` is 6.3
/// million. Beyond it the newest are searched from the other end, and the count becomes a lower bound.
const COUNTED_MAX: u64 = 2_000;

/// What to do with slots whose time has passed unhandled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Misfire {
    pub policy: MisfirePolicy,
    /// A slot handled up to this long after its time is on time. Decides whether `skip` makes the newest
    /// slot, and whether what is made is marked late; nothing else.
    pub grace: Millis,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MisfirePolicy {
    /// The newest slot, late or not.
    #[default]
    FireOnce,
    /// Every slot, but at most the newest `max`.
    FireAll { max: u32 },
    /// The newest slot if it is on time, else none.
    Skip,
}

impl Default for Misfire {
    fn default() -> Self {
        Self { policy: MisfirePolicy::default(), grace: Millis::from_hours(1) }
    }
}

/// A slot that becomes an occurrence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    pub at: Timestamp,
    /// Handled later than the grace allows.
    pub late: bool,
}

/// What to do about a cursor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FirePlan {
    /// The occurrences to make, oldest first.
    pub slots: Vec<Slot>,
    /// Slots up to now that are skipped.
    pub missed: u64,
    /// Whether `missed` is exact; if not, there were at least that many.
    pub missed_is_exact: bool,
    /// Where the cursor goes: the first slot that this plan does not cover. `None`: completed.
    pub next_fire_at: Option<Timestamp>,
}

/// The slots of a span of time.
struct DueSlots {
    /// The newest ones, as many as asked for, oldest first.
    newest: VecDeque<Timestamp>,
    count: u64,
    is_exact: bool,
}

impl Schedule {
    /// What to do at `now` about a cursor that stands at `cursor_next`.
    ///
    /// M is the slots from the cursor up to now, to which the misfire policy applies. No slot is made before
    /// its time: until then its config may be held or changed and whoever would make it may stop, and what is
    /// made already could not obey that. A cursor that is no slot of this schedule (the rules of its zone have
    /// changed since) is not fired: the search starts from it.
    pub fn plan(&self, cursor_next: Timestamp, now: Timestamp) -> FirePlan {
        let keep = match self.misfire.policy {
            MisfirePolicy::FireOnce | MisfirePolicy::Skip => 1,
            MisfirePolicy::FireAll { max } => usize::try_from(max.min(FIRE_ALL_MAX)).unwrap_or(usize::MAX),
        };
        let due = self.due(cursor_next, now, keep);
        let is_late = |at: Timestamp| now > at.plus(self.misfire.grace);
        let mut slots: Vec<Slot> = due.newest.iter().map(|&at| Slot { at, late: is_late(at) }).collect();
        if self.misfire.policy == MisfirePolicy::Skip {
            slots.retain(|slot| !slot.late);
        }
        let made = u64::try_from(slots.len()).unwrap_or(u64::MAX);

        let next = if cursor_next > now { self.next_from(cursor_next) } else { self.next_after(now) };
        FirePlan {
            slots,
            missed: due.count.saturating_sub(made),
            missed_is_exact: due.is_exact,
            next_fire_at: next,
        }
    }

    /// The slots in `from ..= to`, and the newest `keep` of them.
    fn due(&self, from: Timestamp, to: Timestamp, keep: usize) -> DueSlots {
        let to = self.end_at.map_or(to, |end| to.min(end));
        let from = self.start_at.map_or(from, |start| from.max(start));
        match &self.trigger {
            Trigger::Every(every) => {
                let (count, newest) = every.between(from, to, keep);
                DueSlots { newest: newest.into(), count, is_exact: true }
            }
            Trigger::Cron(_) => self.due_by_walking(from, to, keep),
        }
    }

    fn due_by_walking(&self, from: Timestamp, to: Timestamp, keep: usize) -> DueSlots {
        let count_max = COUNTED_MAX.max(u64::try_from(keep).unwrap_or(u64::MAX));
        let mut due = DueSlots { newest: VecDeque::new(), count: 0, is_exact: true };
        let mut next = if from <= to { self.next_from(from) } else { None };
        while let Some(at) = next
            && at <= to
        {
            if due.count == count_max {
                due.newest = self.newest_until(to, keep);
                // The slot at hand is one more than those counted.
                return DueSlots { count: due.count + 1, is_exact: false, ..due };
            }
            due.count += 1;
            due.newest.push_back(at);
            if due.newest.len() > keep {
                due.newest.pop_front();
            }
            next = self.next_after(at);
        }
        due
    }

    /// The newest `keep` slots up to `to`, by searching backwards; there must be that many.
    fn newest_until(&self, to: Timestamp, keep: usize) -> VecDeque<Timestamp> {
        let Trigger::Cron(spec) = &self.trigger else { return VecDeque::new() };
        let mut newest = VecDeque::with_capacity(keep);
        let mut until = to;
        while newest.len() < keep
            && let Some(at) = spec.last_until(until)
        {
            newest.push_front(at);
            until = at.minus(Millis::from_ms(1));
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{CronSpec, Every, Overlap};

    const HOUR: Millis = Millis::from_hours(1);
    /// 2026-01-15T00:00:00Z
    const DAY: Timestamp = Timestamp::from_ms(1_768_435_200_000);
    const SECOND: Millis = Millis::from_secs(1);

    fn cron(expr: &str, policy: MisfirePolicy) -> Schedule {
        let trigger = Trigger::Cron(CronSpec::parse(expr, None, "UTC").unwrap());
        Schedule { misfire: Misfire { policy, grace: HOUR }, ..Schedule::new(trigger) }
    }

    fn every(interval: Millis, policy: MisfirePolicy) -> Schedule {
        let trigger = Trigger::Every(Every { interval, anchor: Timestamp::ZERO });
        Schedule { misfire: Misfire { policy, grace: HOUR }, ..Schedule::new(trigger) }
    }

    /// Hourly slots by both triggers, which must agree.
    fn hourly(policy: MisfirePolicy) -> [Schedule; 2] {
        [cron("0 0 * * * ?", policy), every(HOUR, policy)]
    }

    const fn hours(n: i64) -> Timestamp {
        DAY.plus(Millis::from_hours(n))
    }

    fn slots(plan: &FirePlan) -> Vec<(i64, bool)> {
        plan.slots.iter().map(|slot| (slot.at.since(DAY).ms() / 3_600_000, slot.late)).collect()
    }

    #[test]
    fn in_health_every_policy_makes_the_one_slot() {
        for policy in [MisfirePolicy::FireOnce, MisfirePolicy::Skip, MisfirePolicy::FireAll { max: 3 }] {
            for schedule in hourly(policy) {
                let plan = schedule.plan(hours(1), hours(1));
                assert_eq!(slots(&plan), [(1, false)]);
                assert_eq!((plan.missed, plan.missed_is_exact, plan.next_fire_at), (0, true, Some(hours(2))));
                let plan = schedule.plan(hours(1), hours(1).minus(Millis::from_ms(1)));
                assert_eq!((plan.slots.len(), plan.missed, plan.next_fire_at), (0, 0, Some(hours(1))));
            }
        }
    }

    #[test]
    fn after_an_outage_the_policies_differ() {
        // Slots 1 to 5 are due at 05:30: the newest is on time, the others late.
        let now = hours(5).plus(Millis::from_mins(30));
        for (policy, made, missed) in [
            (MisfirePolicy::FireOnce, vec![(5, false)], 4),
            (MisfirePolicy::Skip, vec![(5, false)], 4),
            (MisfirePolicy::FireAll { max: 3 }, vec![(3, true), (4, true), (5, false)], 2),
            (
                MisfirePolicy::FireAll { max: 9 },
                vec![(1, true), (2, true), (3, true), (4, true), (5, false)],
                0,
            ),
        ] {
            for schedule in hourly(policy) {
                let plan = schedule.plan(hours(1), now);
                assert_eq!(
                    (slots(&plan), plan.missed, plan.next_fire_at),
                    (made.clone(), missed, Some(hours(6)))
                );
            }
        }
    }

    #[test]
    fn the_grace_is_inclusive_and_does_not_multiply() {
        let daily = |policy| cron("0 0 0 * * ?", policy);
        let in_time = DAY.plus(HOUR);
        let too_late = in_time.plus(Millis::from_ms(1));
        assert_eq!(slots(&daily(MisfirePolicy::Skip).plan(DAY, in_time)), [(0, false)]);
        let plan = daily(MisfirePolicy::Skip).plan(DAY, too_late);
        assert_eq!((slots(&plan), plan.missed, plan.next_fire_at), (vec![], 1, Some(hours(24))));
        assert_eq!(slots(&daily(MisfirePolicy::FireOnce).plan(DAY, too_late)), [(0, true)]);
        // Many slots inside the grace: still only the newest.
        for policy in [MisfirePolicy::FireOnce, MisfirePolicy::Skip] {
            let plan = cron("0 0/10 * * * ?", policy).plan(DAY, DAY.plus(Millis::from_mins(35)));
            assert_eq!((plan.slots.len(), plan.missed), (1, 3));
        }
    }

    #[test]
    fn nothing_is_made_before_its_time() {
        for policy in [MisfirePolicy::FireOnce, MisfirePolicy::Skip, MisfirePolicy::FireAll { max: 1 }] {
            let plan = cron("* * * * * ?", policy).plan(DAY, DAY.plus(SECOND));
            let ms: Vec<i64> = plan.slots.iter().map(|slot| slot.at.since(DAY).ms()).collect();
            assert_eq!((ms, plan.missed), (vec![1_000], 1));
            assert_eq!(plan.next_fire_at, Some(DAY.plus(Millis::from_secs(2))));
        }
    }

    #[test]
    fn a_year_behind_is_bounded_work() {
        let now = DAY.plus(Millis::from_days(365));
        for (policy, made) in [(MisfirePolicy::FireOnce, 1), (MisfirePolicy::FireAll { max: 100 }, 100)] {
            let by_cron = cron("*/5 * * * * ?", policy).plan(DAY, now);
            let by_every = every(Millis::from_secs(5), policy).plan(DAY, now);
            assert_eq!(by_cron.slots, by_every.slots);
            assert_eq!(by_cron.slots.len(), made);
            assert_eq!(by_cron.slots[made - 1].at, now);
            assert_eq!(by_cron.next_fire_at, by_every.next_fire_at);
            assert!(by_every.missed_is_exact && !by_cron.missed_is_exact);
            assert_eq!(by_every.missed, 365 * 17_280 + 1 - u64::try_from(made).unwrap());
            assert!(by_cron.missed < by_every.missed && by_cron.missed > 1_000);
        }
    }

    #[test]
    fn bounds_and_ends_hold_in_a_plan() {
        for schedule in hourly(MisfirePolicy::FireAll { max: 100 }) {
            let schedule = Schedule { start_at: Some(hours(2)), end_at: Some(hours(4)), ..schedule };
            let plan = schedule.plan(DAY, hours(9));
            assert_eq!((slots(&plan).len(), plan.missed, plan.next_fire_at), (3, 0, None));
            let plan = schedule.plan(DAY, hours(1));
            assert_eq!((plan.slots.len(), plan.next_fire_at), (0, Some(hours(2))));
        }
    }

    #[test]
    fn a_cursor_that_is_no_slot_is_not_fired() {
        let off = DAY.plus(Millis::from_mins(17));
        for schedule in hourly(MisfirePolicy::FireAll { max: 5 }) {
            let plan = schedule.plan(off, off.plus(Millis::from_mins(5)));
            assert_eq!((plan.slots.len(), plan.missed, plan.next_fire_at), (0, 0, Some(hours(1))));
            // Nor are slots before the cursor, which have been handled.
            let plan = schedule.plan(hours(3), off);
            assert_eq!((plan.slots.len(), plan.missed, plan.next_fire_at), (0, 0, Some(hours(3))));
        }
        assert_eq!(Schedule::new(hourly(MisfirePolicy::Skip)[1].trigger.clone()).overlap, Overlap::Skip);
    }
}
