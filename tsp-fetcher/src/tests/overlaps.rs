//! Slots that meet an occurrence still open.

use tsp_core::outcome::Verdict;
use tsp_core::schedule::Overlap;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::fetching::FetcherStore;
use tsp_store::tasks::TaskCommand;

use super::fixture::{Fixture, TICK, at, done, every_with};

fn waiting(fixture: &Fixture, config: ConfigId) -> Option<Timestamp> {
    let cursors = done(fixture.store.cursors()).expect("cursors");
    cursors.iter().find(|cursor| cursor.config == config).expect("its cursor").waiting
}

fn fixture_with(overlap: Overlap) -> (Fixture, ConfigId) {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every_with(10, overlap)), |_| {});
    fixture.go_to(at(10_000));
    assert_eq!(fixture.made(config), [10_000]);
    (fixture, config)
}

#[test]
fn skip_leaves_slots_out_while_one_is_open() {
    let (mut fixture, config) = fixture_with(Overlap::Skip);
    let running = fixture.begin_all();
    fixture.go_to(at(29_000));
    assert_eq!(fixture.made(config), [10_000]);
    fixture.finish(&running[0], Verdict::done());
    fixture.go_to(at(30_000));
    assert_eq!(fixture.made(config), [10_000, 30_000], "and what was skipped is not made up for");
    let skipped: Vec<_> =
        fixture.store.dump().occurrences.into_iter().filter(|made| made.task.is_none()).collect();
    assert_eq!(skipped.iter().map(|slot| slot.execute_at).collect::<Vec<_>>(), [at(20_000)]);
}

/// One that ends between the look-ahead and the slot does not make the slot be skipped.
#[test]
fn skip_is_decided_at_the_time_of_the_slot() {
    let (mut fixture, config) = fixture_with(Overlap::Skip);
    let running = fixture.begin_all();
    fixture.go_to(at(19_999));
    fixture.finish(&running[0], Verdict::done());
    fixture.go_to(at(20_000));
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}

#[test]
fn queue_one_runs_the_waiting_one_when_the_open_one_ends() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    let running = fixture.begin_all();
    fixture.go_to(at(21_000));
    assert_eq!((fixture.made(config), waiting(&fixture, config)), (vec![10_000], Some(at(20_000))));
    fixture.finish(&running[0], Verdict::done());
    fixture.run_until_idle();
    assert_eq!((fixture.made(config), waiting(&fixture, config)), (vec![10_000, 20_000], None));
    assert_eq!(fixture.work().len(), 1, "at once");
}

#[test]
fn queue_one_is_not_freed_by_a_retry() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    let running = fixture.begin_all();
    fixture.go_to(at(21_000));
    fixture.finish(&running[0], Verdict::retry("http_status"));
    fixture.calls();
    fixture.run_until_idle();
    assert!(!fixture.calls().contains_key("fire"), "a retry frees nobody, so nobody asks");
    assert_eq!(waiting(&fixture, config), Some(at(20_000)));
    fixture.go_to(at(21_400));
    fixture.work();
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}

#[test]
fn queue_one_keeps_the_newest_of_those_that_wait() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    let running = fixture.begin_all();
    fixture.go_to(at(41_000));
    assert_eq!(waiting(&fixture, config), Some(at(40_000)));
    fixture.finish(&running[0], Verdict::done());
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000, 40_000]);
}

/// A cancel by an operator sends no feedback.
#[test]
fn queue_one_is_freed_by_the_resync_when_nobody_tells() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    let id = fixture.task(fixture.taken()[0]).id;
    fixture.go_to(at(20_500));
    assert_eq!(waiting(&fixture, config), Some(at(20_000)));
    fixture.change(id, TaskCommand::Cancel);
    fixture.go_to(at(24_999));
    assert_eq!(fixture.made(config), [10_000]);
    fixture.go_to(at(25_000));
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}

#[test]
fn a_slot_and_the_end_of_the_open_one_in_one_turn_are_one_step() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    let running = fixture.begin_all();
    fixture.go_to(at(29_999));
    fixture.finish(&running[0], Verdict::done());
    fixture.now = at(30_000);
    fixture.calls();
    fixture.run_until_idle();
    let calls = fixture.calls();
    assert!(!calls.contains_key("cursors"), "one step, so none is stale: {calls:?}");
    // The one that waited runs, and the new one waits for it.
    assert_eq!((fixture.made(config), waiting(&fixture, config)), (vec![10_000, 20_000], Some(at(30_000))));
    fixture.go_to(fixture.now.plus(TICK));
    fixture.work();
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000, 20_000, 30_000]);
}

#[test]
fn a_waiting_occurrence_survives_a_restart_and_an_edit() {
    let (mut fixture, config) = fixture_with(Overlap::QueueOne);
    fixture.begin_all();
    fixture.go_to(at(20_500));
    fixture.edit(config, |spec| spec.priority = 1);
    fixture.run_until_idle();
    fixture.restart();
    fixture.run_until_idle();
    assert_eq!(waiting(&fixture, config), Some(at(20_000)));
    assert_eq!(fixture.work().len(), 1, "the first one, again");
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}
