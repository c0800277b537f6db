//! What expressions mean, fixed row by row: every row of the cron reference, sections 5 and 6.
//!
//! A change here changes when users' tasks run.

use super::{CronSpec, Dialect, Schedule, Trigger};
use crate::time::Timestamp;

fn schedule(expr: &str, dialect: Dialect, zone: &str) -> Schedule {
    let spec = CronSpec::parse(expr, Some(dialect), zone).unwrap_or_else(|error| panic!("`{expr}`: {error}"));
    Schedule::new(Trigger::Cron(spec))
}

fn instant(text: &str) -> Timestamp {
    Timestamp::from_ms(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// The local times of the fires after `from`; fewer than `count` when the schedule ends.
fn fires(expr: &str, dialect: Dialect, zone: &str, from: &str, count: usize) -> Vec<String> {
    let fires = schedule(expr, dialect, zone).preview(instant(from), count);
    fires.into_iter().map(|fire| fire.local).collect()
}

/// Asserts the fires of a Quartz expression after `from`, each written as much as it has in common with
/// RFC 3339.
#[track_caller]
fn check(expr: &str, zone: &str, from: &str, expected: &[&str]) {
    assert_eq!(fires(expr, Dialect::Quartz, zone, from, expected.len()), expected, "`{expr}` in {zone}");
}

#[test]
fn new_york_puts_its_clock_forward() {
    let zone = "America/New_York";
    let eve = "2026-03-07T12:00:00-05:00";
    check(
        "0 30 2 * * ?",
        zone,
        eve,
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00", "2026-03-10T02:30:00-04:00"],
    );
    check(
        "0 */30 * * * ?",
        zone,
        "2026-03-08T01:00:00-05:00",
        &["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"],
    );
    // A list of hours follows the clock on the wall: 02:00 is not there, 03:00 once.
    check(
        "0 0 2,3 * * ?",
        zone,
        eve,
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00", "2026-03-09T03:00:00-04:00"],
    );
    check("0 15,45 2 * * ?", zone, eve, &["2026-03-09T02:15:00-04:00", "2026-03-09T02:45:00-04:00"]);
    check("0 * 2 * * ?", zone, eve, &["2026-03-09T02:00:00-04:00", "2026-03-09T02:01:00-04:00"]);
}

#[test]
fn new_york_puts_its_clock_back() {
    let zone = "America/New_York";
    let midnight = "2026-11-01T00:00:00-04:00";
    check("0 30 1 * * ?", zone, midnight, &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]);
    // Also when it is asked again from a stored time inside the repeat.
    check("0 30 1 * * ?", zone, "2026-11-01T01:30:00-04:00", &["2026-11-02T01:30:00-05:00"]);
    check("0 30 1 * * ?", zone, "2026-11-01T01:00:00-05:00", &["2026-11-02T01:30:00-05:00"]);
    check(
        "0 */30 * * * ?",
        zone,
        "2026-11-01T00:30:00-04:00",
        &[
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-01T01:00:00-05:00",
            "2026-11-01T01:30:00-05:00",
            "2026-11-01T02:00:00-05:00",
        ],
    );
    check(
        "*/5 * * * * ?",
        zone,
        "2026-11-01T01:59:50-04:00",
        &["2026-11-01T01:59:55-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T01:00:05-05:00"],
    );
    check(
        "*/5 * * * * ?",
        zone,
        "2026-11-01T01:59:50-05:00",
        &["2026-11-01T01:59:55-05:00", "2026-11-01T02:00:00-05:00"],
    );
    check(
        "0 0 * * * ?",
        zone,
        midnight,
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"],
    );
    check(
        "0 0 1,2 * * ?",
        zone,
        midnight,
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"],
    );
}

#[test]
fn other_zones_change_their_clocks_elsewhere() {
    // Midnight in the gap.
    check(
        "0 0 0 * * ?",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00-03:00",
        &["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    );
    check(
        "0 0 0 * * ?",
        "Africa/Cairo",
        "2026-04-23T12:00:00+02:00",
        &["2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"],
    );
    check(
        "0 30 0 * * ?",
        "America/Havana",
        "2026-10-31T12:00:00-04:00",
        &["2026-11-01T00:30:00-04:00", "2026-11-02T00:30:00-05:00"],
    );
    // A shift of half an hour.
    check(
        "0 45 1 * * ?",
        "Australia/Lord_Howe",
        "2026-04-04T12:00:00+11:00",
        &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
    );
    check(
        "0 0 0 * * ?",
        "Europe/London",
        "2026-03-28T12:00:00+00:00",
        &["2026-03-29T00:00:00+00:00", "2026-03-30T00:00:00+01:00"],
    );
    // A day that does not exist has no slots.
    check(
        "0 0 12 * * ?",
        "Pacific/Apia",
        "2011-12-29T12:00:00-10:00",
        &["2011-12-31T12:00:00+14:00", "2012-01-01T12:00:00+14:00"],
    );
    check("0 0 12 30 12 ?", "Pacific/Apia", "2011-02-01T00:00:00Z", &["2012-12-30T12:00:00+14:00"]);
}

#[test]
fn a_fixed_time_is_found_on_the_calendar_before_it_becomes_an_instant() {
    // The gap ends at midnight, so the first moment after it is on another day of week and of month.
    let (nuuk, eve) = ("America/Nuuk", "2027-03-27T12:00:00-02:00");
    check("0 30 23 ? * SAT", nuuk, eve, &["2027-03-28T00:00:00-01:00", "2027-04-03T23:30:00-01:00"]);
    check("0 30 23 27 3 ?", nuuk, eve, &["2027-03-28T00:00:00-01:00", "2028-03-27T23:30:00-01:00"]);
    // Seconds do not make a pattern of a fixed time: two of them meet behind the gap, and come once in a repeat.
    let (york, eve) = ("America/New_York", "2026-03-07T12:00:00-05:00");
    check(
        "0,30 30 2 * * ?",
        york,
        eve,
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00", "2026-03-09T02:30:30-04:00"],
    );
    check(
        "0,30 30 1 * * ?",
        york,
        "2026-11-01T00:00:00-04:00",
        &["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:30-04:00", "2026-11-02T01:30:00-05:00"],
    );
    // A pattern that only ever falls into gaps is known to end.
    assert_eq!(schedule("0 15,45 2 ? 3 1#2", Dialect::Quartz, york).next_after(instant(eve)), None);
}

/// The table of section 6: expression and the fires after 2026-01-15 08:00 in Shanghai, to the minute.
const SHANGHAI: [(&str, [&str; 3]); 38] = [
    ("0 0 0 L * ?", ["2026-01-31T00:00", "2026-02-28T00:00", "2026-03-31T00:00"]),
    ("0 0 12 ? * 6L", ["2026-01-30T12:00", "2026-02-27T12:00", "2026-03-27T12:00"]),
    ("0 0 12 ? * FRIL", ["2026-01-30T12:00", "2026-02-27T12:00", "2026-03-27T12:00"]),
    ("0 15 10 ? * MON-FRI", ["2026-01-15T10:15", "2026-01-16T10:15", "2026-01-19T10:15"]),
    ("0 0 12 ? * 6#3", ["2026-01-16T12:00", "2026-02-20T12:00", "2026-03-20T12:00"]),
    ("0 0 12 ? * FRI#3", ["2026-01-16T12:00", "2026-02-20T12:00", "2026-03-20T12:00"]),
    ("0 0 12 15W * ?", ["2026-01-15T12:00", "2026-02-16T12:00", "2026-03-16T12:00"]),
    ("0 0 12 LW * ?", ["2026-01-30T12:00", "2026-02-27T12:00", "2026-03-31T12:00"]),
    ("0 0 12 1 1 ? 2027-2029", ["2027-01-01T12:00", "2028-01-01T12:00", "2029-01-01T12:00"]),
    ("0 0/5 14,18 * * ?", ["2026-01-15T14:00", "2026-01-15T14:05", "2026-01-15T14:10"]),
    ("0 0-5 14 * * ?", ["2026-01-15T14:00", "2026-01-15T14:01", "2026-01-15T14:02"]),
    ("0 11 11 11 11 ?", ["2026-11-11T11:11", "2027-11-11T11:11", "2028-11-11T11:11"]),
    ("0 0 12 1/5 * ?", ["2026-01-16T12:00", "2026-01-21T12:00", "2026-01-26T12:00"]),
    ("0 0 0 ? * 1", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
    ("0 0 0 ? * SUN", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
    ("0 0 0 ? * 7", ["2026-01-17T00:00", "2026-01-24T00:00", "2026-01-31T00:00"]),
    ("0 0 0 29 2 ?", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
    ("0 0 12 ? JAN,DEC MON#1,FRI#L", ["2026-01-30T12:00", "2026-12-07T12:00", "2026-12-25T12:00"]),
    ("0 0 0 L,15 * ?", ["2026-01-31T00:00", "2026-02-15T00:00", "2026-02-28T00:00"]),
    ("0 0 10 ? * MON-FRI#1", ["2026-02-02T10:00", "2026-02-03T10:00", "2026-02-04T10:00"]),
    ("@daily", ["2026-01-16T00:00", "2026-01-17T00:00", "2026-01-18T00:00"]),
    ("@weekly", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
    ("@monthly", ["2026-02-01T00:00", "2026-03-01T00:00", "2026-04-01T00:00"]),
    ("@yearly", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
    ("@annually", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
    ("@hourly", ["2026-01-15T09:00", "2026-01-15T10:00", "2026-01-15T11:00"]),
    ("0 0 8 15 1 ?", ["2027-01-15T08:00", "2028-01-15T08:00", "2029-01-15T08:00"]),
    ("0 0 0 ? * FRI-MON", ["2026-01-16T00:00", "2026-01-17T00:00", "2026-01-18T00:00"]),
    ("0 0 22-2/2 * * ?", ["2026-01-15T22:00", "2026-01-16T00:00", "2026-01-16T02:00"]),
    ("0 55-5/5 9 * * ?", ["2026-01-15T09:00", "2026-01-15T09:05", "2026-01-15T09:55"]),
    ("0 0 0 1 NOV-FEB ?", ["2026-02-01T00:00", "2026-11-01T00:00", "2026-12-01T00:00"]),
    ("0 0 12 L-3 * ?", ["2026-01-28T12:00", "2026-02-25T12:00", "2026-03-28T12:00"]),
    ("0 0 12 L-3W * ?", ["2026-01-28T12:00", "2026-02-25T12:00", "2026-03-27T12:00"]),
    ("0 0 12 L-28 2 ?", ["2028-02-01T12:00", "2032-02-01T12:00", "2036-02-01T12:00"]),
    ("0 0 12 L,LW * ?", ["2026-01-30T12:00", "2026-01-31T12:00", "2026-02-27T12:00"]),
    ("0 0 0 ? * L", ["2026-01-17T00:00", "2026-01-24T00:00", "2026-01-31T00:00"]),
    ("0 0 0 1 1 ? */2", ["2028-01-01T00:00", "2030-01-01T00:00", "2032-01-01T00:00"]),
    ("0 0 12 ? 2 SUN#5", ["2032-02-29T12:00", "2060-02-29T12:00", "2088-02-29T12:00"]),
];

const SHANGHAI_FROM: &str = "2026-01-15T08:00:00+08:00";

#[test]
fn every_form_has_one_meaning() {
    for (expr, expected) in SHANGHAI {
        let expected = expected.map(|minute| format!("{minute}:00+08:00"));
        assert_eq!(fires(expr, Dialect::Quartz, "Asia/Shanghai", SHANGHAI_FROM, 3), expected, "`{expr}`");
    }
    let seconds = ["2026-01-15T08:00:05+08:00", "2026-01-15T08:00:10+08:00", "2026-01-15T08:00:15+08:00"];
    check("*/5 * * * * ?", "Asia/Shanghai", SHANGHAI_FROM, &seconds);
}

#[test]
fn a_year_ends_a_schedule() {
    for (expr, count) in [("0 0 12 1 1 ? 2027-2029", 3), ("0 0 12 1 1 ? 2030", 1)] {
        let all = fires(expr, Dialect::Quartz, "Asia/Shanghai", SHANGHAI_FROM, 10);
        assert_eq!(all.len(), count, "`{expr}`");
    }
}

#[test]
fn what_never_fires_is_told_apart() {
    for expr in
        ["0 0 0 30 2 ?", "0 0 0 31 4,6 ?", "0 0 12 1 1 ? 2020", "0 0 12 L-29 2 ?", "0 0 12 1 1 ? 2300"]
    {
        for zone in ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia"] {
            assert_eq!(
                schedule(expr, Dialect::Quartz, zone).next_after(instant(SHANGHAI_FROM)),
                None,
                "`{expr}`"
            );
        }
    }
}

#[test]
fn the_unix_dialect_counts_from_sunday_0_and_means_either_day() {
    for (expr, expected) in [
        ("0 12 * * 5", ["2026-01-16T12:00", "2026-01-23T12:00", "2026-01-30T12:00"]),
        ("0 0 * * 0", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
        ("0 0 * * 7", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
        ("0 0 * * FRI-SUN", ["2026-01-16T00:00", "2026-01-17T00:00", "2026-01-18T00:00"]),
        ("0 0 17 * FRI", ["2026-01-16T00:00", "2026-01-17T00:00", "2026-01-23T00:00"]),
        ("*/20 9-17 * * 1-5", ["2026-01-15T09:00", "2026-01-15T09:20", "2026-01-15T09:40"]),
        ("@weekly", ["2026-01-18T00:00", "2026-01-25T00:00", "2026-02-01T00:00"]),
    ] {
        let expected = expected.map(|minute| format!("{minute}:00+08:00"));
        assert_eq!(fires(expr, Dialect::Unix, "Asia/Shanghai", SHANGHAI_FROM, 3), expected, "`{expr}`");
    }
}
