//! One step of one schedule: the cursor moves and its occurrences are made, or neither.

use tsp_core::config::{ConfigSpec, OnDuplicateKey, TaskConfig};
use tsp_core::schedule::Overlap;
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::{Millis, Timestamp};

use super::bed::{Bed, T0, at, cron_spec};
use crate::catalog::{ConfigSaved, Expected, Hold};
use crate::error::StoreError;
use crate::schedule::{Cursor, Fire, Fired, SlotTask};
use crate::tasks::Submitted;

pub(super) fn slot(bed: &Bed, config: &TaskConfig, execute_at: Timestamp) -> SlotTask {
    let shard = tsp_core::key::config_shard(config.id, bed.store.shards());
    let new = NewTask {
        id: bed.id(shard),
        config: config.id,
        key: None,
        execute_at,
        payload: config.spec.payload.clone(),
        expire_after: None,
        origin: Origin::Schedule,
        extra: None,
    };
    SlotTask { task: Box::new(Task::new(new, T0)), late: false }
}

/// A step that makes these slots and moves on to ten seconds after the last.
pub(super) fn step(bed: &Bed, config: &TaskConfig, cursor: &Cursor, slots: &[Timestamp]) -> Fire {
    Fire {
        config: config.id,
        cursor_version: cursor.version,
        config_version: config.version,
        overlap: Overlap::Allow,
        slots: slots.iter().map(|at| slot(bed, config, *at)).collect(),
        waiting: None,
        missed: 0,
        next_fire_at: Some(slots.last().copied().unwrap_or(T0).plus(Millis::from_secs(10))),
    }
}

/// A step that must be taken: the cursor as it became, the made tasks, and how many were skipped.
pub(super) async fn fired(bed: &Bed, fire: Fire) -> (Cursor, Vec<Task>, usize) {
    let config = fire.config;
    match bed.store.fire(bed.owner, fire, T0).await.expect("fire") {
        Fired::Moved { cursor, made, skipped } => {
            assert_eq!(bed.cursor(config).await, cursor, "the answer is the stored cursor");
            (cursor, made.into_iter().map(|task| *task).collect(), skipped)
        }
        other => panic!("the cursor is as the step says and must move: {other:?}"),
    }
}

pub(super) async fn a_step_makes_its_slots_and_moves_the_cursor(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let before = bed.cursor(config.id).await;
    let fire = Fire { missed: 3, ..step(bed, &config, &before, &[at(10), at(20)]) };
    let wanted: Vec<Task> = fire.slots.iter().map(|slot| Task::clone(&slot.task)).collect();
    let (cursor, made, skipped) = fired(bed, fire).await;
    assert_eq!((made, skipped), (wanted.clone(), 0));
    for task in &wanted {
        bed.check_stored(task).await;
    }
    assert_eq!(cursor.next_fire_at, Some(at(30)));
    assert_eq!((cursor.version, cursor.config_version), (before.version + 1, config.version));
    assert_eq!((cursor.missed, cursor.waiting), (3, None));
    assert_eq!(bed.store.heads().await.expect("heads").len(), 1, "its tasks are there to be claimed");
    let (cursor, ..) = fired(bed, Fire { missed: 2, ..step(bed, &config, &cursor, &[]) }).await;
    assert_eq!(cursor.missed, 5, "missed slots add up");
    let (cursor, ..) = fired(bed, Fire { missed: i64::MAX, ..step(bed, &config, &cursor, &[]) }).await;
    assert_eq!(cursor.missed, i64::MAX, "to the most that can be counted");
}

/// An empty step moves the cursor alone; a schedule that has ended has no next slot.
pub(super) async fn a_step_without_slots_still_moves_the_cursor(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let (cursor, made, _) = fired(bed, step(bed, &config, &cursor, &[])).await;
    assert!(made.is_empty());
    assert_eq!(cursor.next_fire_at, Some(at(10)));
    assert_eq!(bed.store.next_due().await.expect("next_due"), Some(at(10)));
    let fire = Fire { next_fire_at: None, ..step(bed, &config, &cursor, &[]) };
    let (cursor, ..) = fired(bed, fire).await;
    assert_eq!(cursor.next_fire_at, None);
    assert_eq!(bed.store.next_due().await.expect("next_due"), None);
}

/// A slot exists once, also when the cursor is set back; the cursor still moves.
pub(super) async fn an_occurrence_exists_once(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let (cursor, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10)])).await;
    assert_eq!(made.len(), 1);
    let (cursor, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10), at(10), at(20)])).await;
    assert_eq!(made.iter().map(|task| task.execute_at).collect::<Vec<_>>(), [at(20)]);
    // Also when its task has ended.
    bed.store.cancel_open(config.id, 10, &super::bed::by(), T0).await.expect("cancel_open");
    let (_, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10), at(20)])).await;
    assert!(made.is_empty(), "both exist: {made:?}");
}

/// Two that handle the same cursor: one moves it, the other reads again.
pub(super) async fn a_stale_cursor_is_left_alone(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let fires = [step(bed, &config, &cursor, &[at(10)]), step(bed, &config, &cursor, &[at(10)])];
    let answers = futures::future::join_all(fires.map(|fire| bed.store.fire(bed.owner, fire, T0))).await;
    let moved = answers.iter().filter(|answer| matches!(answer, Ok(Fired::Moved { .. }))).count();
    let stale = answers.iter().filter(|answer| matches!(answer, Ok(Fired::Stale))).count();
    assert_eq!((moved, stale), (1, 1), "{answers:?}");
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 1);
}

/// Computed with another version of the config, older or newer: nothing moves.
pub(super) async fn a_step_of_another_config_version_is_stale(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let newer = Fire { config_version: 2, ..step(bed, &config, &cursor, &[at(10)]) };
    assert_eq!(bed.store.fire(bed.owner, newer, T0).await.expect("fire"), Fired::Stale);
    let saved = bed.save_config(cron_spec("nightly"), Expected::Any, T0).await;
    let ConfigSaved::Updated(edited) = saved else { panic!("the config is there: {saved:?}") };
    let older = step(bed, &config, &cursor, &[at(10)]);
    assert_eq!(bed.store.fire(bed.owner, older, T0).await.expect("fire"), Fired::Stale);
    assert_eq!(bed.cursor(config.id).await, cursor);
    let (moved, ..) = fired(bed, step(bed, &edited, &cursor, &[])).await;
    assert_eq!(moved.config_version, 2, "the one with the present config recomputes it");
}

/// While a config is held its schedule makes nothing.
pub(super) async fn a_held_config_does_not_fire(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    for (hold, release) in [(Hold::Pause { note: None }, Hold::Resume), (Hold::Disable, Hold::Enable)] {
        let held = bed.hold(config.id, hold).await;
        let fire = step(bed, &held, &cursor, &[at(10)]);
        assert_eq!(bed.store.fire(bed.owner, fire, T0).await.expect("fire"), Fired::Stale);
        bed.hold(config.id, release).await;
    }
    let current = bed.store.book().config(config.id).expect("it is there");
    fired(bed, step(bed, &current, &cursor, &[at(10)])).await;
}

pub(super) async fn a_deposed_owner_does_not_fire(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let node = bed.store.register_node("next", T0).await.expect("register_node");
    let next = bed.store.take_shards(node, T0).await.expect("take_shards");
    let fire = step(bed, &config, &cursor, &[at(10)]);
    assert_eq!(bed.store.fire(bed.owner, fire.clone(), T0).await.expect("fire"), Fired::Deposed);
    assert_eq!(bed.cursor(config.id).await, cursor);
    let answer = bed.store.fire(next, fire, T0).await.expect("fire");
    assert!(matches!(answer, Fired::Moved { .. }), "{answer:?}");
}

/// A config without a schedule, or that is gone.
pub(super) async fn without_a_cursor_nothing_fires(bed: &Bed) {
    let config = bed.config("plain").await;
    let fire = Fire {
        config: config.id,
        cursor_version: 1,
        config_version: config.version,
        overlap: Overlap::Allow,
        slots: vec![slot(bed, &config, at(10))],
        waiting: None,
        missed: 0,
        next_fire_at: None,
    };
    assert_eq!(bed.store.fire(bed.owner, fire, T0).await.expect("fire"), Fired::Stale);
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 0);
}

/// A step that was computed from a schedule is none of a config that has lost it, and gives it no cursor.
pub(super) async fn without_a_schedule_nothing_fires(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let bare = ConfigSpec { schedule: None, ..config.spec.clone() };
    let saved = bed.save_config(bare, Expected::Any, T0).await;
    let ConfigSaved::Updated(bare) = saved else { panic!("the config is there: {saved:?}") };
    let fire = step(bed, &bare, &cursor, &[at(10)]);
    assert_eq!(bed.store.fire(bed.owner, fire, T0).await.expect("fire"), Fired::Stale);
    assert_eq!(bed.store.cursors().await.expect("cursors"), []);
    assert_eq!(bed.store.audit(T0).await.expect("audit").accepted, 0);
}

/// Two tasks with one id are a fault of ours: neither is overwritten, and nothing of the step is kept.
pub(super) async fn a_slot_whose_id_is_taken_fails_its_step(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let there = bed.create(slot(bed, &config, at(5)).task).await;
    let mut fire = step(bed, &config, &cursor, &[at(10), at(20)]);
    fire.slots[1].task.id = there.id;
    let answer = bed.store.fire(bed.owner, fire, T0).await;
    assert!(matches!(answer, Err(StoreError::Internal(_))), "{answer:?}");
    bed.check_stored(&there).await;
    assert_eq!(bed.cursor(config.id).await, cursor);
    let (_, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10), at(20)])).await;
    assert_eq!(made.len(), 2, "neither slot was handled");
}

/// A run by hand is no slot: it stands beside the schedule's own.
pub(super) async fn a_run_by_hand_takes_no_slot(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let mut by_hand = slot(bed, &config, at(10)).task;
    by_hand.origin = Origin::Run;
    let answer = bed.submit(by_hand, OnDuplicateKey::Ignore).await;
    assert!(matches!(answer, Submitted::Created(_)), "{answer:?}");
    let cursor = bed.cursor(config.id).await;
    let (_, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10)])).await;
    assert_eq!(made.first().map(|task| task.status), Some(Status::Scheduled));
}

/// Made late is made all the same: due now, with its slot as the promised time.
pub(super) async fn a_late_slot_is_due_at_once(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let mut fire = step(bed, &config, &cursor, &[at(-7_200)]);
    fire.slots[0].late = true;
    let (_, made, _) = fired(bed, fire).await;
    assert_eq!((made[0].execute_at, made[0].due_at), (at(-7_200), T0));
    bed.check_stored(&made[0]).await;
}
