//! Overlap, decided from the rows in the transaction that would insert (cron reference, section 10).

use tsp_core::config::TaskConfig;
use tsp_core::schedule::Overlap;
use tsp_core::task::Task;
use tsp_core::{TaskId, Timestamp};
use tsp_store::fetching::{Cursor, Fire};
use tsp_store::tasks::TaskCommand;

use super::fire::{fired, slot, step};
use super::fixture::{Fixture, T0, at, cron_spec};

fn with(
    fixture: &Fixture,
    config: &TaskConfig,
    cursor: &Cursor,
    overlap: Overlap,
    slots: &[Timestamp],
) -> Fire {
    Fire { overlap, ..step(fixture, config, cursor, slots) }
}

fn times(made: &[Task]) -> Vec<Timestamp> {
    made.iter().map(|task| task.execute_at).collect()
}

async fn end(fixture: &Fixture, id: TaskId) {
    fixture.changed(id, TaskCommand::Cancel, T0).await;
}

/// Occurrences are independent.
pub(super) async fn allow_makes_every_slot(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let fire = with(fixture, &config, &cursor, Overlap::Allow, &[at(10), at(20)]);
    let (cursor, made, skipped) = fired(fixture, fire).await;
    assert_eq!((times(&made), skipped), (vec![at(10), at(20)], 0));
    let (_, made, skipped) = fired(fixture, with(fixture, &config, &cursor, Overlap::Allow, &[at(30)])).await;
    assert_eq!((times(&made), skipped), (vec![at(30)], 0));
}

/// None while one is open, in whatever state; of several in one step only the first.
pub(super) async fn skip_makes_none_while_one_is_open(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let skip = |cursor: &Cursor, slots: &[Timestamp]| with(fixture, &config, cursor, Overlap::Skip, slots);
    let (cursor, made, skipped) = fired(fixture, skip(&cursor, &[at(0), at(1), at(2)])).await;
    assert_eq!((times(&made), skipped), (vec![at(0)], 2), "only the first gets through");
    let task = made[0].clone();
    let queued = fixture.claim(&task, at(0)).await;
    let (cursor, made, skipped) = fired(fixture, skip(&cursor, &[at(10)])).await;
    assert_eq!((made.len(), skipped), (0, 1), "claimed is open");
    let begun = fixture.begin(&queued, at(0)).await;
    let (cursor, made, skipped) = fired(fixture, skip(&cursor, &[at(20)])).await;
    assert_eq!((made.len(), skipped), (0, 1), "executing is open");
    assert_eq!((cursor.waiting, cursor.next_fire_at), (None, Some(at(30))));
    let retried = fixture.finish(&begun, tsp_core::Verdict::retry("x"), at(1)).await;
    let (cursor, made, skipped) = fired(fixture, skip(&cursor, &[at(30)])).await;
    assert_eq!((made.len(), skipped), (0, 1), "retries are part of it");
    end(fixture, retried.id).await;
    let (cursor, made, skipped) = fired(fixture, skip(&cursor, &[at(40)])).await;
    assert_eq!((times(&made), skipped), (vec![at(40)], 0), "it has ended");
    end(fixture, made[0].id).await;
    // A slot that was left out stays left out.
    let (_, made, _) = fired(fixture, skip(&cursor, &[at(20)])).await;
    assert!(made.is_empty(), "it was handled: {made:?}");
}

/// One waits, without a task; a later slot takes its place.
pub(super) async fn queue_one_keeps_one_waiting(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let queue =
        |cursor: &Cursor, slots: &[Timestamp]| with(fixture, &config, cursor, Overlap::QueueOne, slots);
    let (cursor, made, skipped) = fired(fixture, queue(&cursor, &[at(10)])).await;
    assert_eq!((times(&made), skipped, cursor.waiting), (vec![at(10)], 0, None));
    let running = made[0].id;
    let (cursor, made, skipped) = fired(fixture, queue(&cursor, &[at(20)])).await;
    assert_eq!((made.len(), skipped, cursor.waiting), (0, 0, Some(at(20))));
    let (cursor, made, skipped) = fired(fixture, queue(&cursor, &[at(30)])).await;
    assert_eq!((made.len(), skipped, cursor.waiting), (0, 1, Some(at(30))), "the earlier one gives way");
    // Still open: the task that was brought for it is not made.
    let fire = Fire { waiting: Some(slot(fixture, &config, at(30))), ..queue(&cursor, &[]) };
    let (cursor, made, _) = fired(fixture, fire).await;
    assert_eq!((made.len(), cursor.waiting), (0, Some(at(30))));
    end(fixture, running).await;
    // Nothing else may overtake the one that waits.
    let (cursor, made, _) = fired(fixture, queue(&cursor, &[])).await;
    assert_eq!((made.len(), cursor.waiting), (0, Some(at(30))), "no task was brought for it");
    let fire = Fire { waiting: Some(slot(fixture, &config, at(30))), ..queue(&cursor, &[]) };
    let wanted = fire.waiting.as_ref().map(|slot| slot.task.id);
    let (cursor, made, _) = fired(fixture, fire).await;
    assert_eq!((made.first().map(|task| task.id), cursor.waiting), (wanted, None));
    fixture.check_stored(&made[0]).await;
}

/// The waiting one becomes open and the new slot waits, in one step.
pub(super) async fn the_waiting_one_goes_before_a_new_slot(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let queue =
        |cursor: &Cursor, slots: &[Timestamp]| with(fixture, &config, cursor, Overlap::QueueOne, slots);
    let (cursor, made, skipped) = fired(fixture, queue(&cursor, &[at(10), at(20)])).await;
    assert_eq!((times(&made), skipped, cursor.waiting), (vec![at(10)], 0, Some(at(20))));
    end(fixture, made[0].id).await;
    let fire = Fire { waiting: Some(slot(fixture, &config, at(20))), ..queue(&cursor, &[at(30)]) };
    let (cursor, made, skipped) = fired(fixture, fire).await;
    assert_eq!((times(&made), skipped, cursor.waiting), (vec![at(20)], 0, Some(at(30))));
    // A task for another slot than the one that waits is not made.
    end(fixture, made[0].id).await;
    let fire = Fire { waiting: Some(slot(fixture, &config, at(20))), ..queue(&cursor, &[]) };
    let (cursor, made, _) = fired(fixture, fire).await;
    assert_eq!((made.len(), cursor.waiting), (0, Some(at(30))));
}

/// One that is run by hand is an occurrence as well.
pub(super) async fn a_run_by_hand_counts_as_open(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let mut by_hand = slot(fixture, &config, at(5)).task;
    by_hand.origin = tsp_core::task::Origin::Run;
    let task = fixture.create(by_hand).await;
    let cursor = fixture.cursor(config.id).await;
    let (cursor, made, skipped) =
        fired(fixture, with(fixture, &config, &cursor, Overlap::Skip, &[at(10)])).await;
    assert_eq!((made.len(), skipped), (0, 1));
    end(fixture, task.id).await;
    let (_, made, _) = fired(fixture, with(fixture, &config, &cursor, Overlap::Skip, &[at(20)])).await;
    assert_eq!(made.len(), 1);
}

/// Another config's open tasks are none of its business.
pub(super) async fn configs_do_not_overlap_each_other(fixture: &Fixture) {
    let one = fixture.config_of(cron_spec("one")).await;
    let two = fixture.config_of(cron_spec("two")).await;
    for config in [one, two] {
        let cursor = fixture.cursor(config.id).await;
        let (_, made, skipped) =
            fired(fixture, with(fixture, &config, &cursor, Overlap::Skip, &[at(10)])).await;
        assert_eq!((made.len(), skipped), (1, 0));
    }
}
