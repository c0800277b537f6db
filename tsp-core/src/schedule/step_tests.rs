//! Steps by table, and what holds over every history of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::step::{Cursor, Fire, ScheduleStep, SlotTask, StepFindings, StepQuery};
use super::{Every, Overlap, Schedule, Trigger};
use crate::config::{ConfigSpec, HttpTarget, Paused, TaskConfig};
use crate::ids::{AppId, ConfigId, TaskId};
use crate::name::Name;
use crate::task::{NewTask, Origin, Task};
use crate::time::{Millis, Timestamp};

const CONFIG: ConfigId = ConfigId::new(1);

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(1_795_257_000_000 + seconds * 1_000)
}

fn slot(seconds: i64) -> SlotTask {
    let new = NewTask {
        id: TaskId::new(seconds + 1),
        config: CONFIG,
        key: None,
        execute_at: at(seconds),
        payload: None,
        expire_after: None,
        origin: Origin::Schedule,
        extra: None,
    };
    SlotTask { task: Box::new(Task::new(new, at(0))), late: false }
}

fn fire(cursor: &Cursor, overlap: Overlap, slots: &[i64]) -> Fire {
    Fire {
        config: CONFIG,
        cursor_version: cursor.version,
        config_version: 1,
        overlap,
        slots: slots.iter().map(|seconds| slot(*seconds)).collect(),
        waiting: None,
        missed: 0,
        next_fire_at: Some(at(1_000)),
    }
}

fn waits_for(seconds: i64) -> Cursor {
    Cursor { waiting: Some(at(seconds)), ..Cursor::new(CONFIG) }
}

fn handled(slots: &[i64]) -> BTreeSet<Timestamp> {
    slots.iter().map(|seconds| at(*seconds)).collect()
}

/// When each occurrence is, whether it has a task, and whether it is late.
fn shown(step: &ScheduleStep) -> Vec<(Timestamp, bool, bool)> {
    let one = |new: &super::step::NewOccurrence| (new.execute_at, new.task.is_some(), new.late);
    step.occurrences.iter().map(one).collect()
}

fn config() -> TaskConfig {
    let every = Every { interval: Millis::from_secs(10), anchor: at(0) };
    let name = |text| Name::new(text).unwrap();
    let spec = ConfigSpec {
        schedule: Some(Schedule::new(Trigger::Every(every))),
        ..ConfigSpec::new(name("nightly"), HttpTarget::post("http://receiver.internal/"))
    };
    TaskConfig {
        id: CONFIG,
        app_id: AppId::new(1),
        app: name("trade"),
        spec,
        paused: None,
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

#[test]
fn a_step_fits_the_config_that_it_was_computed_with() {
    let fire = fire(&Cursor::new(CONFIG), Overlap::Allow, &[1]);
    assert!(fire.fits_config(Some(&config())));
    assert!(!fire.fits_config(None), "it is gone");
    let paused = Some(Paused { by: "cli".to_owned(), at: at(0), note: None });
    let mut others = [(); 4].map(|()| config());
    others[0].spec.schedule = None;
    others[1].spec.enabled = false;
    others[2].paused = paused;
    others[3].version = 2;
    for other in others {
        assert!(!fire.fits_config(Some(&other)), "{other:?}");
    }
}

#[test]
fn a_step_fits_the_cursor_that_it_was_computed_from() {
    let new = Cursor::new(CONFIG);
    let fire = fire(&new, Overlap::Allow, &[1]);
    assert!(fire.fits_cursor(&new), "also the one that is not there yet");
    assert!(fire.fits_cursor(&Cursor { config_version: 1, ..new.clone() }));
    assert!(!fire.fits_cursor(&Cursor { config_version: 2, ..new.clone() }), "of a newer config");
    assert!(!fire.fits_cursor(&Cursor { version: 2, ..new }), "another step was taken");
}

#[test]
fn nothing_is_looked_up_that_does_not_count() {
    let wanted = |cursor: &Cursor, overlap, slots: &[i64], waiting: Option<i64>| {
        Fire { waiting: waiting.map(slot), ..fire(cursor, overlap, slots) }.wanted(cursor)
    };
    let new = Cursor::new(CONFIG);
    let some = |open, slots: &[i64]| StepQuery { open, slots: handled(slots) };
    assert_eq!(wanted(&new, Overlap::Skip, &[], None), some(false, &[]), "the cursor moves alone");
    assert_eq!(wanted(&new, Overlap::Allow, &[2, 1], None), some(false, &[1, 2]), "whatever is open");
    assert_eq!(wanted(&new, Overlap::Skip, &[1], None), some(true, &[1]));
    assert_eq!(wanted(&new, Overlap::QueueOne, &[1], Some(5)), some(true, &[1]), "nothing waits");
    assert_eq!(wanted(&waits_for(5), Overlap::QueueOne, &[6], None), some(true, &[5, 6]), "it may give way");
    assert_eq!(wanted(&waits_for(5), Overlap::QueueOne, &[], Some(5)), some(true, &[5]));
    assert_eq!(wanted(&waits_for(5), Overlap::QueueOne, &[], Some(4)), some(false, &[]), "another one waits");
}

#[test]
fn what_waits_is_made_once_nothing_is_open() {
    let step = |open, handled| {
        let cursor = waits_for(5);
        let fire = Fire { waiting: Some(slot(5)), ..fire(&cursor, Overlap::QueueOne, &[6]) };
        fire.step(cursor, StepFindings { open, handled })
    };
    let made = step(false, handled(&[]));
    assert_eq!((shown(&made), made.cursor.waiting), (vec![(at(5), true, false)], Some(at(6))), "in its turn");
    let open = step(true, handled(&[]));
    assert_eq!(
        (shown(&open), open.cursor.waiting),
        (vec![(at(5), false, false)], Some(at(6))),
        "it gives way"
    );
    let was_made = step(false, handled(&[5]));
    assert_eq!((shown(&was_made), was_made.cursor.waiting), (vec![(at(6), true, false)], None));
}

#[test]
fn what_gives_way_is_counted_once_and_is_as_late_as_what_it_gives_way_to() {
    let step = |late, handled| {
        let cursor = waits_for(5);
        let mut fire = fire(&cursor, Overlap::QueueOne, &[5, 6, 7]);
        fire.slots[1].late = late;
        fire.step(cursor, StepFindings { open: true, handled })
    };
    let both = step(true, handled(&[]));
    assert_eq!(shown(&both), [(at(5), false, true), (at(6), false, false)]);
    assert_eq!(both.cursor.waiting, Some(at(7)), "the newest waits");
    assert_eq!(shown(&step(false, handled(&[5]))), [(at(6), false, false)], "it is there already");
}

#[test]
fn the_cursor_moves_and_its_count_ends_at_the_most_there_is() {
    let cursor = Cursor { missed: 3, ..Cursor::new(CONFIG) };
    let step = Fire { missed: 4, ..fire(&cursor, Overlap::Skip, &[]) }.step(cursor, StepFindings::default());
    let Cursor { next_fire_at, version, config_version, missed, .. } = step.cursor;
    assert_eq!((next_fire_at, version, config_version, missed), (Some(at(1_000)), 2, 1, 7));
    let full = Cursor { missed: i64::MAX, ..Cursor::new(CONFIG) };
    let step = Fire { missed: 4, ..fire(&full, Overlap::Skip, &[]) }.step(full, StepFindings::default());
    assert_eq!(step.cursor.missed, i64::MAX);
}

/// One step of a history, and whether the open occurrence has ended before it.
#[derive(Debug, Clone)]
struct Turn {
    ended: bool,
    overlap: Overlap,
    slots: Vec<i64>,
    brings_waiting: bool,
}

/// The same slots repeat, as those of a cursor that was set back.
fn history() -> impl Strategy<Value = Vec<Turn>> {
    let overlap = prop::sample::select(vec![Overlap::Allow, Overlap::Skip, Overlap::QueueOne]);
    let slots = prop::collection::vec(0_i64..40, 0..5);
    let turn = (any::<bool>(), overlap, slots, any::<bool>())
        .prop_map(|(ended, overlap, slots, brings)| Turn { ended, overlap, slots, brings_waiting: brings });
    prop::collection::vec(turn, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_slot_is_handled_once_and_none_is_lost(history in history()) {
        let (mut cursor, mut all, mut open) = (Cursor::new(CONFIG), BTreeSet::new(), false);
        for turn in history {
            open &= !turn.ended;
            let waiting = cursor.waiting.filter(|_| turn.brings_waiting);
            let waiting = waiting.map(|waiting| slot(waiting.since(at(0)).ms() / 1_000));
            let fire = Fire { waiting, ..fire(&cursor, turn.overlap, &turn.slots) };
            let wanted = fire.wanted(&cursor);
            let found = StepFindings {
                open: open && wanted.open,
                handled: all.intersection(&wanted.slots).copied().collect(),
            };
            let step = fire.clone().step(cursor.clone(), found);
            let knowing_all = fire.step(cursor.clone(), StepFindings { open, handled: all.clone() });
            prop_assert_eq!(&step, &knowing_all, "what is not looked up changes nothing");

            let made = step.tasks().count();
            prop_assert!(turn.overlap == Overlap::Allow || made <= usize::from(!open), "two are open");
            prop_assert!(turn.overlap != Overlap::Allow || made == step.occurrences.len(), "one is left out");
            open |= made > 0;
            for new in &step.occurrences {
                prop_assert!(all.insert(new.execute_at), "{} exists twice", new.execute_at);
            }
            for at in turn.slots.into_iter().map(at).chain(cursor.waiting) {
                prop_assert!(all.contains(&at) || step.cursor.waiting == Some(at), "{at} is lost");
            }
            prop_assert_eq!(step.cursor.version, cursor.version + 1);
            cursor = step.cursor;
        }
    }
}
