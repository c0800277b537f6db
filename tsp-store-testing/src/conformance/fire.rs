//! Steps of schedules: of each the cursor moves and its occurrences are made, or neither.

use tsp_core::config::{ConfigSpec, OnDuplicateKey, TaskConfig};
use tsp_core::schedule::Overlap;
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::{Millis, Timestamp};
use tsp_store::catalog::{ConfigSaved, ExpectedVersion, Hold};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Cursor, Fire, FireResult, SlotTask};
use tsp_store::tasks::{SubmitOutcome, TaskCommand};

use super::fixture::{Fixture, T0, at, cron_spec};
use crate::fire_one;

pub(super) fn slot(fixture: &Fixture, config: &TaskConfig, execute_at: Timestamp) -> SlotTask {
    let shard = tsp_core::task_key::config_shard(config.id, fixture.store.shards());
    let new = NewTask {
        id: fixture.id(shard),
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
pub(super) fn step(fixture: &Fixture, config: &TaskConfig, cursor: &Cursor, slots: &[Timestamp]) -> Fire {
    let next = slots.last().copied().unwrap_or(T0).plus(Millis::from_secs(10));
    Fire {
        overlap: Overlap::Allow,
        slots: slots.iter().map(|at| slot(fixture, config, *at)).collect(),
        ..Fire::without_slots(config, cursor.version, Some(next))
    }
}

async fn answer_of(fixture: &Fixture, fire: Fire) -> Result<FireResult> {
    fire_one(&*fixture.store, fixture.owner, fire, T0).await
}

/// A step that must be taken: the cursor as it became, the made tasks, and how many were skipped.
pub(super) async fn fired(fixture: &Fixture, fire: Fire) -> (Cursor, Vec<Task>, usize) {
    let config = fire.config;
    match answer_of(fixture, fire).await.expect("fire") {
        FireResult::Moved { cursor, made, skipped } => {
            assert_eq!(fixture.cursor(config).await, cursor, "the answer is the stored cursor");
            (cursor, made.into_iter().map(|task| *task).collect(), skipped)
        }
        other => panic!("the cursor is as the step says and must move: {other:?}"),
    }
}

pub(super) async fn a_step_makes_its_slots_and_moves_the_cursor(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let before = fixture.cursor(config.id).await;
    let fire = Fire { missed: 3, ..step(fixture, &config, &before, &[at(10), at(20)]) };
    let wanted: Vec<Task> = fire.slots.iter().map(|slot| Task::clone(&slot.task)).collect();
    let (cursor, made, skipped) = fired(fixture, fire).await;
    assert_eq!((made, skipped), (wanted.clone(), 0));
    for task in &wanted {
        fixture.check_stored(task).await;
    }
    assert_eq!(cursor.next_fire_at, Some(at(30)));
    assert_eq!((cursor.version, cursor.config_version), (before.version + 1, config.version));
    assert_eq!((cursor.missed, cursor.waiting), (3, None));
    assert_eq!(
        fixture.store.earliest_due().await.expect("earliest_due").len(),
        1,
        "its tasks are there to be claimed"
    );
    let (cursor, ..) = fired(fixture, Fire { missed: 2, ..step(fixture, &config, &cursor, &[]) }).await;
    assert_eq!(cursor.missed, 5, "missed slots add up");
    let (cursor, ..) =
        fired(fixture, Fire { missed: i64::MAX, ..step(fixture, &config, &cursor, &[]) }).await;
    assert_eq!(cursor.missed, i64::MAX, "to the most that can be counted");
}

/// An empty step moves the cursor alone; a schedule that has ended has no next slot.
pub(super) async fn a_step_without_slots_still_moves_the_cursor(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let (cursor, made, _) = fired(fixture, step(fixture, &config, &cursor, &[])).await;
    assert!(made.is_empty());
    assert_eq!(cursor.next_fire_at, Some(at(10)));
    let fire = Fire { next_fire_at: None, ..step(fixture, &config, &cursor, &[]) };
    let (cursor, ..) = fired(fixture, fire).await;
    assert_eq!(cursor.next_fire_at, None);
}

/// A slot exists once, also when the cursor is set back; the cursor still moves.
pub(super) async fn an_occurrence_exists_once(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let (cursor, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10)])).await;
    assert_eq!(made.len(), 1);
    let (cursor, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10), at(10), at(20)])).await;
    assert_eq!(made.iter().map(|task| task.execute_at).collect::<Vec<_>>(), [at(20)]);
    // Also when its task has ended.
    fixture.store.cancel_open(config.id, 10, &super::fixture::by(), T0).await.expect("cancel_open");
    let (_, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10), at(20)])).await;
    assert!(made.is_empty(), "both exist: {made:?}");
}

/// Two that handle the same cursor: one moves it, the other reads again.
pub(super) async fn a_stale_cursor_is_left_alone(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let fires = [step(fixture, &config, &cursor, &[at(10)]), step(fixture, &config, &cursor, &[at(10)])];
    let answers = futures::future::join_all(fires.map(|fire| answer_of(fixture, fire))).await;
    let moved = answers.iter().filter(|answer| matches!(answer, Ok(FireResult::Moved { .. }))).count();
    let stale = answers.iter().filter(|answer| matches!(answer, Ok(FireResult::Stale))).count();
    assert_eq!((moved, stale), (1, 1), "{answers:?}");
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 1);
}

/// Computed with another version of the config, older or newer: nothing moves.
pub(super) async fn a_step_of_another_config_version_is_stale(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let newer = Fire { config_version: 2, ..step(fixture, &config, &cursor, &[at(10)]) };
    assert_eq!(answer_of(fixture, newer).await.expect("fire"), FireResult::Stale);
    let saved = fixture.save_config(cron_spec("nightly"), ExpectedVersion::Any, T0).await;
    let ConfigSaved::Updated(edited) = saved else { panic!("the config is there: {saved:?}") };
    let older = step(fixture, &config, &cursor, &[at(10)]);
    assert_eq!(answer_of(fixture, older).await.expect("fire"), FireResult::Stale);
    assert_eq!(fixture.cursor(config.id).await, cursor);
    let (moved, ..) = fired(fixture, step(fixture, &edited, &cursor, &[])).await;
    assert_eq!(moved.config_version, 2, "the one with the present config recomputes it");
}

/// While a config is held its schedule makes nothing.
pub(super) async fn a_held_config_does_not_fire(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    for (hold, release) in [(Hold::Pause { note: None }, Hold::Resume), (Hold::Disable, Hold::Enable)] {
        let held = fixture.hold(config.id, hold).await;
        let fire = step(fixture, &held, &cursor, &[at(10)]);
        assert_eq!(answer_of(fixture, fire).await.expect("fire"), FireResult::Stale);
        fixture.hold(config.id, release).await;
    }
    let current = fixture.store.config_cache().config(config.id).expect("it is there");
    fired(fixture, step(fixture, &current, &cursor, &[at(10)])).await;
}

pub(super) async fn a_deposed_owner_does_not_fire(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let node = fixture.store.register_node("next", T0).await.expect("register_node");
    let next = fixture.store.take_shards(node, T0).await.expect("take_shards");
    let fire = step(fixture, &config, &cursor, &[at(10)]);
    assert_eq!(answer_of(fixture, fire.clone()).await.expect("fire"), FireResult::Deposed);
    assert_eq!(fixture.cursor(config.id).await, cursor);
    let answer = fire_one(&*fixture.store, next, fire, T0).await.expect("fire");
    assert!(matches!(answer, FireResult::Moved { .. }), "{answer:?}");
}

/// A config without a schedule, or that is gone.
pub(super) async fn without_a_cursor_nothing_fires(fixture: &Fixture) {
    let config = fixture.config("plain").await;
    let slots = vec![slot(fixture, &config, at(10))];
    let fire = Fire { slots, ..Fire::without_slots(&config, 1, None) };
    assert_eq!(answer_of(fixture, fire).await.expect("fire"), FireResult::Stale);
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 0);
}

/// A step that was computed from a schedule is none of a config that has lost it, and gives it no cursor.
pub(super) async fn without_a_schedule_nothing_fires(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let bare = ConfigSpec { schedule: None, ..config.spec.clone() };
    let saved = fixture.save_config(bare, ExpectedVersion::Any, T0).await;
    let ConfigSaved::Updated(bare) = saved else { panic!("the config is there: {saved:?}") };
    let fire = step(fixture, &bare, &cursor, &[at(10)]);
    assert_eq!(answer_of(fixture, fire).await.expect("fire"), FireResult::Stale);
    assert_eq!(fixture.store.cursors().await.expect("cursors"), []);
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 0);
}

/// Two tasks with one id are a fault of ours: neither is overwritten, and nothing of the step is kept.
pub(super) async fn a_slot_whose_id_is_taken_fails_its_step(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let there = fixture.create(slot(fixture, &config, at(5)).task).await;
    let mut fire = step(fixture, &config, &cursor, &[at(10), at(20)]);
    fire.slots[1].task.id = there.id;
    let answer = answer_of(fixture, fire).await;
    assert!(matches!(answer, Err(StoreError::Internal(_))), "{answer:?}");
    fixture.check_stored(&there).await;
    assert_eq!(fixture.cursor(config.id).await, cursor);
    let (_, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10), at(20)])).await;
    assert_eq!(made.len(), 2, "neither slot was handled");
}

/// A run by hand is no slot: it stands beside the schedule's own.
pub(super) async fn a_run_by_hand_takes_no_slot(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let mut by_hand = slot(fixture, &config, at(10)).task;
    by_hand.origin = Origin::Run;
    let answer = fixture.submit(by_hand, OnDuplicateKey::Ignore).await;
    assert!(matches!(answer, SubmitOutcome::Created(_)), "{answer:?}");
    let cursor = fixture.cursor(config.id).await;
    let (_, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10)])).await;
    assert_eq!(made.first().map(|task| task.status), Some(Status::Scheduled));
}

/// Made late is made all the same: due now, with its slot as the promised time.
pub(super) async fn a_late_slot_is_due_at_once(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let mut fire = step(fixture, &config, &cursor, &[at(-7_200)]);
    fire.slots[0].late = true;
    let (_, made, _) = fired(fixture, fire).await;
    assert_eq!((made[0].execute_at, made[0].due_at), (at(-7_200), T0));
    fixture.check_stored(&made[0]).await;
}

/// Each of a call is taken or not whatever becomes of the others, and the answers are in their order.
pub(super) async fn each_step_of_a_call_stands_alone(fixture: &Fixture) {
    let mut configs = Vec::new();
    for name in ["stale", "first", "taken", "skips", "waits", "last"] {
        configs.push(fixture.config_of(cron_spec(name)).await);
    }
    let [stale, first, taken, skips, waits, last] = &configs[..] else { panic!("{configs:?}") };
    let with = async |config: &TaskConfig, overlap, slots: &[Timestamp]| {
        let cursor = fixture.cursor(config.id).await;
        Fire { overlap, ..step(fixture, config, &cursor, slots) }
    };
    let there = fired(fixture, with(skips, Overlap::Skip, &[at(0)]).await).await.1.remove(0);
    let (waiting, made, _) = fired(fixture, with(waits, Overlap::QueueOne, &[at(0), at(10)]).await).await;
    fixture.changed(made[0].id, TaskCommand::Cancel, T0).await;
    let mut fires = Vec::new();
    for config in [stale, first, taken, skips, waits, last] {
        fires.push(with(config, Overlap::QueueOne, &[at(10), at(20)]).await);
    }
    fires[0].config_version += 1;
    fires[2].overlap = Overlap::Allow;
    fires[2].slots[1].task.id = fires[2].slots[0].task.id;
    fires[3].overlap = Overlap::Skip;
    fires[4].waiting = waiting.waiting.map(|waiting| slot(fixture, waits, waiting));

    let answers = fixture.store.fire(fixture.owner, fires, T0).await;
    let slots = |answer: &Result<FireResult>| match answer {
        Ok(FireResult::Moved { made, skipped, cursor }) => {
            (made.iter().map(|task| task.execute_at).collect(), *skipped, cursor.waiting)
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(answers[0], Ok(FireResult::Stale)), "{answers:?}");
    assert!(matches!(answers[2], Err(StoreError::Internal(_))), "{answers:?}");
    for at_once in [1, 4, 5] {
        assert_eq!(slots(&answers[at_once]), (vec![at(10)], 0, Some(at(20))), "{answers:?}");
    }
    assert_eq!(slots(&answers[3]), (Vec::new(), 2, None), "{answers:?}");
    for (config, answer) in configs.iter().zip(answers) {
        let cursor = fixture.cursor(config.id).await;
        match answer {
            Ok(FireResult::Moved { cursor: moved, .. }) => assert_eq!(moved, cursor),
            _ => assert_eq!((cursor.version, cursor.next_fire_at), (1, None)),
        }
    }
    fixture.check_stored(&there).await;
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 5);
}

/// The second goes by what the first made, and is stale if it was computed before.
pub(super) async fn a_schedule_twice_in_one_call_takes_two_steps(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let next = Cursor { version: cursor.version + 1, ..cursor.clone() };
    let fires = [(&cursor, at(10)), (&cursor, at(10)), (&next, at(20))];
    let fires = fires.map(|(cursor, slot)| step(fixture, &config, cursor, &[slot]));
    let answers = fixture.store.fire(fixture.owner, fires.to_vec(), T0).await;
    assert!(
        matches!(
            &answers[..],
            [Ok(FireResult::Moved { .. }), Ok(FireResult::Stale), Ok(FireResult::Moved { .. })]
        ),
        "{answers:?}"
    );
    assert_eq!(fixture.cursor(config.id).await.next_fire_at, Some(at(30)));
    assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 2);
    assert_eq!(fixture.store.fire(fixture.owner, Vec::new(), T0).await.len(), 0);
}

/// The most that misfire makes at once, beside others.
pub(super) async fn ten_thousand_slots_are_made_beside_others(fixture: &Fixture) {
    let mut fires = Vec::new();
    for n in 0..10 {
        let config = fixture.config_of(cron_spec(&format!("cron-{n}"))).await;
        let cursor = fixture.cursor(config.id).await;
        let slots: Vec<_> = (1..=if n == 5 { 10_000 } else { n }).map(at).collect();
        fires.push(step(fixture, &config, &cursor, &slots));
    }
    for again in [false, true] {
        let answers = fixture.store.fire(fixture.owner, fires.clone(), T0).await;
        for (fire, answer) in fires.iter().zip(answers) {
            match answer.expect("fire") {
                FireResult::Moved { cursor, made, skipped } => {
                    let wanted: Vec<_> = fire.slots.iter().map(|slot| slot.task.clone()).collect();
                    assert!(made == wanted && skipped == 0 && !again);
                    assert_eq!(fixture.cursor(fire.config).await, cursor);
                }
                other => assert!(again && other == FireResult::Stale, "{other:?}"),
            }
        }
        assert_eq!(fixture.store.audit(T0).await.expect("audit").accepted, 10_040);
    }
    // As after a schedule is set back: each slot is known.
    let (config, slots) = (fires[5].config, fires[5].slots.clone());
    let cursor_version = fixture.cursor(config).await.version;
    let (_, made, _) = fired(fixture, Fire { cursor_version, slots, ..fires[5].clone() }).await;
    assert!(made.is_empty(), "{} slots were made twice", made.len());
}
