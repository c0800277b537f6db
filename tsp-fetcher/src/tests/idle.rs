//! Idle is free: a hundred thousand configs, and nothing to do.

use tsp_core::Millis;
use tsp_core::schedule::Overlap;

use super::bed::{Bed, T0, at, every_with};

const EACH: usize = 50_000;

#[test]
fn a_hundred_thousand_idle_configs_cost_a_few_reads_at_a_resync_and_nothing_between() {
    let mut bed = Bed::new();
    let mut delayed = Vec::with_capacity(EACH);
    for n in 0..EACH {
        delayed.push(bed.delayed(&format!("delayed-{n}")));
        let overlap = if n % 2 == 0 { Overlap::Allow } else { Overlap::Skip };
        bed.config(&format!("cron-{n}"), Some(every_with(3_600, overlap)), |_| {});
    }
    for config in delayed.iter().step_by(100) {
        bed.submit_silently(*config, T0.plus(Millis::from_days(1)));
    }
    bed.settle();

    bed.calls();
    let report = bed.go_to(at(4_999));
    assert!(bed.calls().is_empty(), "between resyncs nothing is asked");
    assert_eq!(report.next, at(5_000), "and nothing is done before the resync");
    for _ in 0..3 {
        bed.step().unwrap();
    }
    assert!(bed.calls().is_empty(), "whatever wakes it");

    bed.go_to(at(5_000));
    let calls = bed.calls();
    let in_all: usize = calls.values().sum();
    assert!(in_all <= 4, "a resync at idle is a few reads: {calls:?}");
    assert_eq!(calls.get("cursors"), None, "the cursors are known: {calls:?}");

    // One edit costs one step of one schedule, with or without its hint.
    let edited = bed.config("edited", Some(every_with(3_600, Overlap::Skip)), |_| {});
    bed.go_to(at(10_000));
    assert_eq!(bed.calls().get("fire"), Some(&1));
    bed.edit(edited, |spec| spec.priority = 1);
    bed.settle();
    let calls = bed.calls();
    assert_eq!((calls["fire"], calls.len()), (1, 2), "the edit and its step: {calls:?}");
}
