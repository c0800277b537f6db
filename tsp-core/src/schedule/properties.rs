//! What holds for every schedule, tried on random ones (cron reference, section 6, last line).

use proptest::prelude::*;

use super::reference::Reading;
use super::search::zoned;
use super::{CronSpec, Misfire, MisfirePolicy, Schedule, Trigger};
use crate::time::{Millis, Timestamp};

const SECOND: Millis = Millis::from_secs(1);

/// Zones with every kind of change: none, an hour, half an hour, at midnight, on other dates.
const ZONES: [&str; 8] = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
    "America/Santiago",
];

/// Expressions that fire at least once in a few years, most of them daily and at night, when clocks change.
fn expr() -> impl Strategy<Value = String> {
    let minutes = prop_oneof![
        3 => "[0-5][0-9]?",
        1 => "\\*/[1-9]",
        1 => "[0-9],[3-5][0-9]",
        1 => "0/15",
        1 => Just("*".to_owned()),
    ];
    let hours = prop_oneof![
        3 => "[0-3]",
        1 => "[0-3],[4-6]",
        1 => "1?[0-9]",
        1 => "\\*/[1-6]",
        1 => "0-3",
        1 => Just("*".to_owned()),
    ];
    let seconds = prop_oneof![2 => Just("0".to_owned()), 1 => "[0-5][0-9]", 1 => "\\*/[1-3]0"];
    let days = prop_oneof![
        9 => Just("* * ?".to_owned()),
        1 => "[1-9] \\* \\?",
        1 => "\\? \\* [1-7]",
        1 => "\\? \\* [1-7]#[1-4]",
        1 => "\\? \\* [1-7]L",
        1 => Just("L * ?".to_owned()),
        1 => Just("LW * ?".to_owned()),
        1 => "[1-9]W \\* \\?",
        1 => "\\*/[2-9] [1-9] \\?",
        1 => Just("? 3,4,10,11 1".to_owned()),
    ];
    (seconds, minutes, hours, days).prop_map(|(s, m, h, d)| format!("{s} {m} {h} {d}"))
}

fn spec() -> impl Strategy<Value = CronSpec> {
    (expr(), prop::sample::select(&ZONES)).prop_map(|(expr, zone)| {
        CronSpec::parse(&expr, None, zone).unwrap_or_else(|error| panic!("`{expr}`: {error}"))
    })
}

/// A spec and an instant of 2026 or 2027, three times in four within hours of a change of its zone's clock:
/// there are two in a year, and everything of interest happens at them.
fn spec_and_instant() -> impl Strategy<Value = (CronSpec, Timestamp)> {
    let at = 1_767_225_600_000_i64..1_830_297_600_000;
    let hours_5 = 18_000_000_i64;
    (spec(), at, prop::option::weighted(0.75, -hours_5..hours_5)).prop_map(|(spec, at, near)| {
        let at = Timestamp::from_ms(at);
        let from = zoned(spec.zone(), at).unwrap().timestamp();
        let change = spec.zone().following(from).next().map(|change| change.timestamp().as_millisecond());
        match (change, near) {
            (Some(change), Some(near)) => (spec, Timestamp::from_ms(change + near)),
            _ => (spec, at),
        }
    })
}

/// Whether the wall clock of the spec's zone shows the time of `at` twice.
fn is_repeated(spec: &CronSpec, at: Timestamp) -> bool {
    let at = zoned(spec.zone(), at).unwrap();
    spec.zone().to_ambiguous_timestamp(at.datetime()).is_ambiguous()
}

/// Whether the clock was put forward just at `at`.
fn is_after_gap(spec: &CronSpec, at: Timestamp) -> bool {
    let (before, at) = (zoned(spec.zone(), at.minus(SECOND)).unwrap(), zoned(spec.zone(), at).unwrap());
    before.offset() < at.offset()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_next_slot_is_ahead_and_matches_its_fields((spec, after) in spec_and_instant()) {
        let next = spec.next_after(after).expect("fires within years");
        prop_assert!(next > after);
        prop_assert_eq!(next.ms() % 1_000, 0);
        let local = zoned(spec.zone(), next).unwrap();
        let reading = Reading::new(spec.expr(), spec.dialect());
        prop_assert!(reading.matches(local.datetime()) || is_after_gap(&spec, next), "{local}");
    }

    #[test]
    fn the_next_slot_is_monotonic((spec, after) in spec_and_instant(), more in 0_i64..200_000_000) {
        let later = after.plus(Millis::from_ms(more));
        prop_assert!(spec.next_after(after) <= spec.next_after(later));
    }

    #[test]
    fn nothing_lies_between_a_time_and_its_next_slot((spec, after) in spec_and_instant(), share in 0.0..1.0) {
        let next = spec.next_after(after).unwrap();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "any point between")]
        let between = after.plus(Millis::from_ms((next.since(after).ms() as f64 * share) as i64));
        for from in [between, next.minus(SECOND), next.minus(Millis::from_ms(1))] {
            if from >= after {
                prop_assert_eq!(spec.next_after(from), Some(next), "from {}", from);
            }
        }
        prop_assert!(is_repeated(&spec, next) || spec.next_after(next.minus(SECOND)) == Some(next));
    }

    #[test]
    fn walking_back_finds_what_walking_ahead_found((spec, after) in spec_and_instant()) {
        let mut slots = vec![spec.next_after(after).unwrap()];
        for _ in 0..20 {
            slots.push(spec.next_after(*slots.last().unwrap()).unwrap());
        }
        let mut until = *slots.last().unwrap();
        for slot in slots.iter().rev() {
            prop_assert_eq!(spec.last_until(until), Some(*slot), "until {}", until);
            until = slot.minus(Millis::from_ms(1));
        }
    }

    #[test]
    fn plans_cover_every_slot_once(
        (spec, from) in spec_and_instant(), steps in prop::collection::vec(0_i64..40_000_000, 1..12),
        policy in prop::sample::select(&[
            MisfirePolicy::FireOnce, MisfirePolicy::Skip, MisfirePolicy::FireAll { max: 3 }, MisfirePolicy::FireAll { max: 10_000 },
        ]),
    ) {
        let misfire = Misfire { policy, ..Misfire::default() };
        let schedule = Schedule { misfire, ..Schedule::new(Trigger::Cron(spec)) };
        let mut cursor = schedule.next_after(from).unwrap();
        let mut now = from;
        let (mut walked, mut made, mut missed) = (from, 0, 0);
        for step in steps {
            now = now.plus(Millis::from_ms(step));
            let plan = schedule.plan(cursor, now);
            // Each made slot is a slot of the schedule, in order, after all earlier ones.
            for slot in &plan.slots {
                prop_assert!(slot.at > walked && slot.at <= now);
                prop_assert_eq!(schedule.next_after(slot.at.minus(Millis::from_ms(1))), Some(slot.at));
                prop_assert_eq!(slot.late, now > slot.at.plus(misfire.grace));
                walked = slot.at;
            }
            made += plan.slots.len() as u64;
            missed += plan.missed;
            cursor = plan.next_fire_at.unwrap();
            prop_assert!(cursor > now);
            prop_assume!(plan.missed_is_exact);
        }
        let (mut all, mut at) = (0, from);
        while let Some(next) = schedule.next_after(at) && next < cursor {
            all += 1;
            at = next;
        }
        prop_assert_eq!(made + missed, all);
    }
}

proptest! {
    // Fewer, because each looks at every second of some hours.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_second_that_matches_is_a_slot((spec, after) in spec_and_instant()) {
        let end = after.plus(Millis::from_hours(5));
        let reading = Reading::new(spec.expr(), spec.dialect());
        let is_fixed = reading.is_fixed_time();
        let mut looked_up = Vec::new();
        let mut at = Timestamp::from_ms(after.ms().div_euclid(1_000) * 1_000).plus(SECOND);
        while at <= end {
            let local = zoned(spec.zone(), at).unwrap();
            // A fixed time of day does not run again in the second pass of a repeat.
            let first = spec.zone().to_ambiguous_timestamp(local.datetime()).earlier().unwrap();
            if reading.matches(local.datetime()) && !(is_fixed && first != local.timestamp()) {
                looked_up.push(at);
            }
            at = at.plus(SECOND);
        }
        let mut walked = Vec::new();
        let mut at = after;
        while let Some(next) = spec.next_after(at) && next <= end {
            let local = zoned(spec.zone(), next).unwrap();
            // What was moved behind a gap matches no field, and is a property of its own.
            if reading.matches(local.datetime()) {
                walked.push(next);
            }
            at = next;
        }
        prop_assert_eq!(walked, looked_up);
    }
}
