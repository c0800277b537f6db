//! Idle is free: a hundred thousand configs, and nothing to do.

use tsp_core::Millis;
use tsp_core::schedule::Overlap;

use super::fixture::{Fixture, T0, at, every_with};

const EACH: usize = 50_000;

#[test]
fn a_hundred_thousand_idle_configs_cost_a_few_reads_at_a_resync_and_nothing_between() {
    let mut fixture = Fixture::new();
    let mut delayed = Vec::with_capacity(EACH);
    for n in 0..EACH {
        delayed.push(fixture.delayed(&format!("delayed-{n}")));
        let overlap = if n % 2 == 0 { Overlap::Allow } else { Overlap::Skip };
        fixture.config(&format!("cron-{n}"), Some(every_with(3_600, overlap)), |_| {});
    }
    for config in delayed.iter().step_by(100) {
        fixture.submit_silently(*config, T0.plus(Millis::from_days(1)));
    }
    fixture.run_until_idle();

    fixture.calls();
    let report = fixture.go_to(at(4_999));
    assert!(fixture.calls().is_empty(), "between resyncs nothing is asked");
    assert_eq!(report.next, at(5_000), "and nothing is done before the resync");
    for _ in 0..3 {
        fixture.step().unwrap();
    }
    assert!(fixture.calls().is_empty(), "whatever wakes it");

    fixture.go_to(at(5_000));
    let calls = fixture.calls();
    let in_all: usize = calls.values().sum();
    assert!(in_all <= 4, "a resync at idle is a few reads: {calls:?}");
    assert_eq!(calls.get("cursors"), None, "the cursors are known: {calls:?}");

    // One edit costs one step of one schedule, with or without its hint.
    let edited = fixture.config("edited", Some(every_with(3_600, Overlap::Skip)), |_| {});
    fixture.go_to(at(10_000));
    assert_eq!(fixture.calls().get("fire"), Some(&1));
    fixture.edit(edited, |spec| spec.priority = 1);
    fixture.run_until_idle();
    let calls = fixture.calls();
    assert_eq!((calls["fire"], calls.len()), (1, 2), "the edit and its step: {calls:?}");
}
