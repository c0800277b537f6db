//! Slots that meet an occurrence still open.

use tsp_core::outcome::Verdict;
use tsp_core::schedule::Overlap;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::schedule::ScheduleStore;
use tsp_store::tasks::Wish;

use super::bed::{Bed, TICK, at, done, every_with};

fn waiting(bed: &Bed, config: ConfigId) -> Option<Timestamp> {
    let cursors = done(bed.store.cursors()).expect("cursors");
    cursors.iter().find(|cursor| cursor.config == config).expect("its cursor").waiting
}

fn bed_with(overlap: Overlap) -> (Bed, ConfigId) {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every_with(10, overlap)), |_| {});
    bed.go_to(at(10_000));
    assert_eq!(bed.made(config), [10_000]);
    (bed, config)
}

#[test]
fn skip_leaves_slots_out_while_one_is_open() {
    let (mut bed, config) = bed_with(Overlap::Skip);
    let running = bed.begin_all();
    bed.go_to(at(29_000));
    assert_eq!(bed.made(config), [10_000]);
    bed.finish(&running[0], Verdict::done());
    bed.go_to(at(30_000));
    assert_eq!(bed.made(config), [10_000, 30_000], "and what was skipped is not made up for");
    let skipped: Vec<_> =
        bed.store.dump().occurrences.into_iter().filter(|made| made.task.is_none()).collect();
    assert_eq!(skipped.iter().map(|slot| slot.execute_at).collect::<Vec<_>>(), [at(20_000)]);
}

/// One that ends between the look-ahead and the slot does not make the slot be skipped.
#[test]
fn skip_is_decided_at_the_time_of_the_slot() {
    let (mut bed, config) = bed_with(Overlap::Skip);
    let running = bed.begin_all();
    bed.go_to(at(19_999));
    bed.finish(&running[0], Verdict::done());
    bed.go_to(at(20_000));
    assert_eq!(bed.made(config), [10_000, 20_000]);
}

#[test]
fn queue_one_runs_the_waiting_one_when_the_open_one_ends() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    let running = bed.begin_all();
    bed.go_to(at(21_000));
    assert_eq!((bed.made(config), waiting(&bed, config)), (vec![10_000], Some(at(20_000))));
    bed.finish(&running[0], Verdict::done());
    bed.settle();
    assert_eq!((bed.made(config), waiting(&bed, config)), (vec![10_000, 20_000], None));
    assert_eq!(bed.work().len(), 1, "at once");
}

#[test]
fn queue_one_is_not_freed_by_a_retry() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    let running = bed.begin_all();
    bed.go_to(at(21_000));
    bed.finish(&running[0], Verdict::retry("http_status"));
    bed.calls();
    bed.settle();
    assert!(!bed.calls().contains_key("fire"), "a retry frees nobody, so nobody asks");
    assert_eq!(waiting(&bed, config), Some(at(20_000)));
    bed.go_to(at(21_400));
    bed.work();
    bed.settle();
    assert_eq!(bed.made(config), [10_000, 20_000]);
}

#[test]
fn queue_one_keeps_the_newest_of_those_that_wait() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    let running = bed.begin_all();
    bed.go_to(at(41_000));
    assert_eq!(waiting(&bed, config), Some(at(40_000)));
    bed.finish(&running[0], Verdict::done());
    bed.settle();
    assert_eq!(bed.made(config), [10_000, 40_000]);
}

/// A cancel by a person sends no feedback.
#[test]
fn queue_one_is_freed_by_the_resync_when_nobody_tells() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    let id = bed.task(bed.taken()[0]).id;
    bed.go_to(at(20_500));
    assert_eq!(waiting(&bed, config), Some(at(20_000)));
    bed.change(id, Wish::Cancel);
    bed.go_to(at(24_999));
    assert_eq!(bed.made(config), [10_000]);
    bed.go_to(at(25_000));
    assert_eq!(bed.made(config), [10_000, 20_000]);
}

#[test]
fn a_slot_and_the_end_of_the_open_one_in_one_turn_are_one_step() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    let running = bed.begin_all();
    bed.go_to(at(29_999));
    bed.finish(&running[0], Verdict::done());
    bed.now = at(30_000);
    bed.calls();
    bed.settle();
    let calls = bed.calls();
    assert!(!calls.contains_key("cursors"), "one step, so none is stale: {calls:?}");
    // The one that waited runs, and the new one waits for it.
    assert_eq!((bed.made(config), waiting(&bed, config)), (vec![10_000, 20_000], Some(at(30_000))));
    bed.go_to(bed.now.plus(TICK));
    bed.work();
    bed.settle();
    assert_eq!(bed.made(config), [10_000, 20_000, 30_000]);
}

#[test]
fn a_waiting_occurrence_survives_a_restart_and_an_edit() {
    let (mut bed, config) = bed_with(Overlap::QueueOne);
    bed.begin_all();
    bed.go_to(at(20_500));
    bed.edit(config, |spec| spec.priority = 1);
    bed.settle();
    bed.restart();
    bed.settle();
    assert_eq!(waiting(&bed, config), Some(at(20_000)));
    assert_eq!(bed.work().len(), 1, "the first one, again");
    bed.settle();
    assert_eq!(bed.made(config), [10_000, 20_000]);
}
