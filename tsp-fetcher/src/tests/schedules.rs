//! When schedules fire, and when they do not.

use tsp_core::Timestamp;
use tsp_core::schedule::{Overlap, Schedule};
use tsp_store::catalog::Hold;
use tsp_store::schedule::{Fire, Fired, ScheduleStore};

use super::bed::{Bed, TICK, at, done, every, every_with};

fn next_fire(bed: &Bed, config: tsp_core::ConfigId) -> Option<Timestamp> {
    let cursors = done(bed.store.cursors()).expect("cursors");
    cursors.iter().find(|cursor| cursor.config == config).and_then(|cursor| cursor.next_fire_at)
}

#[test]
fn the_first_fire_is_the_first_slot_after_creation() {
    let mut bed = Bed::new();
    bed.settle();
    let config = bed.config("cron", Some(every(10)), |_| {});
    bed.inbox.changed(config);
    bed.settle();
    assert!(bed.made(config).is_empty(), "not at once, though the anchor is a slot");
    let report = bed.go_to(at(9_999));
    assert_eq!(report.next, at(10_000));
    bed.go_to(at(10_000));
    assert_eq!(bed.made(config), [10_000]);
    assert_eq!(bed.work().len(), 1, "made, claimed and published in one turn");
    bed.go_to(at(20_000));
    bed.work();
    bed.go_to(at(30_000));
    assert_eq!(bed.made(config), [10_000, 20_000, 30_000]);
}

#[test]
fn a_config_whose_hint_was_lost_fires_by_the_resync() {
    let mut bed = Bed::new();
    bed.settle();
    bed.now = at(100);
    let config = bed.config("cron", Some(every_with(2, Overlap::Allow)), |_| {});
    bed.go_to(at(6_000));
    assert_eq!(bed.made(config), [4_000, 6_000], "the newest missed one, and those from then on");
}

#[test]
fn overlap_allow_fires_beside_what_is_open_and_not_before_its_time() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    bed.go_to(at(9_999));
    assert!(bed.made(config).is_empty(), "until then it may be held, changed or missed");
    bed.go_to(at(10_000));
    assert_eq!(bed.take().len(), 1);
    bed.go_to(at(20_000));
    assert_eq!(bed.take().len(), 1, "though the first is still open");
}

#[test]
fn an_edit_fires_nothing_of_the_past_and_nothing_twice() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    bed.go_to(at(10_000));
    assert_eq!(bed.made(config), [10_000]);
    bed.edit(config, |spec| spec.priority = 3);
    bed.go_to(at(12_000));
    bed.work();
    assert_eq!(bed.made(config), [10_000]);
    bed.edit(config, |spec| spec.schedule = Some(every_with(3, Overlap::Allow)));
    bed.settle();
    assert_eq!(bed.made(config), [10_000], "neither 3, 6 and 9 nor 12");
    bed.go_to(at(15_000));
    assert_eq!(bed.made(config), [10_000, 15_000]);
}

#[test]
fn what_stops_just_before_a_slot_never_fires_it_late() {
    let stops: [fn(&mut Bed, tsp_core::ConfigId); 3] = [
        |bed, config| bed.pause(config),
        |bed, config| bed.hold(config, Hold::Disable),
        |bed, config| bed.edit(config, |spec| spec.schedule = Some(every_with(50_000, Overlap::Allow))),
    ];
    for (stop, overlap) in stops
        .iter()
        .flat_map(|stop| [Overlap::Allow, Overlap::Skip, Overlap::QueueOne].map(|overlap| (stop, overlap)))
    {
        let mut bed = Bed::new();
        let config = bed.config("cron", Some(every_with(7_200, overlap)), |_| {});
        bed.go_to(at(7_199_300));
        stop(&mut bed, config);
        bed.inbox.changed(config);
        bed.go_to(at(36_000_000 - 1));
        bed.hold(config, Hold::Resume);
        bed.hold(config, Hold::Enable);
        bed.edit(config, |spec| spec.schedule = Some(every_with(7_200, overlap)));
        bed.settle();
        bed.work();
        let made = bed.made(config);
        assert!(!made.contains(&7_200_000), "{overlap:?}: {made:?}");
        bed.go_to(at(36_000_000));
        assert_eq!(bed.made(config).last(), Some(&36_000_000));
    }
}

#[test]
fn a_schedule_that_moves_to_an_earlier_slot_wakes() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(3_600)), |_| {});
    bed.settle();
    bed.now = at(100);
    bed.edit(config, |spec| spec.schedule = Some(every(1)));
    let report = bed.settle();
    assert_eq!(report.next, at(1_000));
}

#[test]
fn a_held_schedule_makes_nothing_and_goes_on_without_the_past() {
    for hint in [true, false] {
        let mut bed = Bed::new();
        let config = bed.config("cron", Some(every(10)), |_| {});
        bed.go_to(at(1_000));
        bed.pause(config);
        bed.inbox.changed(config);
        bed.settle();
        bed.calls();
        let report = bed.go_to(at(4_900));
        assert!(bed.calls().is_empty(), "a held schedule costs nothing");
        assert!(report.next > at(4_900));
        bed.go_to(at(34_000));
        assert!(bed.made(config).is_empty());
        bed.hold(config, Hold::Disable);
        bed.hold(config, Hold::Resume);
        bed.go_to(at(45_000));
        assert!(bed.made(config).is_empty(), "disabled");
        bed.hold(config, Hold::Enable);
        if hint {
            bed.inbox.changed(config);
        }
        bed.go_to(at(49_999));
        assert!(bed.made(config).is_empty(), "the slots before are not fired");
        // Without the hint the resync at 50 s hears of it.
        bed.go_to(at(50_000));
        assert_eq!(bed.made(config), [50_000], "hint: {hint}");
    }
}

#[test]
fn a_schedule_taken_away_or_given_stops_or_starts() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(10)), |_| {});
    bed.go_to(at(1_000));
    bed.edit(config, |spec| spec.schedule = None);
    bed.settle();
    bed.calls();
    bed.go_to(at(30_000));
    let calls = bed.calls();
    assert!(!calls.contains_key("fire") && !calls.contains_key("cursors"), "{calls:?}");
    bed.edit(config, |spec| spec.schedule = Some(every(10)));
    bed.go_to(at(40_000));
    assert_eq!(bed.made(config), [40_000]);
}

#[test]
fn a_schedule_that_has_ended_is_completed() {
    let mut bed = Bed::new();
    let ended = Schedule { end_at: Some(at(20_000)), ..every(10) };
    let config = bed.config("cron", Some(ended), |_| {});
    for slot in [10_000, 20_000, 30_000] {
        bed.go_to(at(slot));
        bed.work();
    }
    assert_eq!(bed.made(config), [10_000, 20_000]);
    assert_eq!(next_fire(&bed, config), None);
    bed.calls();
    bed.go_to(at(60_000));
    assert!(!bed.calls().contains_key("fire"), "nothing is left to do");
}

#[test]
fn a_schedule_that_begins_later_waits_for_its_start() {
    let mut bed = Bed::new();
    let later = Schedule { start_at: Some(at(15_000)), ..every(10) };
    let config = bed.config("cron", Some(later), |_| {});
    bed.go_to(at(20_000));
    assert_eq!(bed.made(config), [20_000]);
}

#[test]
fn more_schedules_than_one_turn_handles_all_fire_at_their_time() {
    const MANY: usize = 1_300;
    let mut bed = Bed::new();
    let configs: Vec<_> =
        (0..MANY).map(|n| bed.config(&format!("cron-{n}"), Some(every(60)), |_| {})).collect();
    bed.settle();
    let report = bed.go_to(at(60_000));
    assert_eq!(report.fired, MANY);
    assert!(configs.iter().all(|config| bed.made(*config) == [60_000]));
    let mut worked = 0;
    bed.go_to(bed.now.plus(TICK));
    while worked < MANY {
        let now = bed.work().len();
        assert!(now > 0, "{worked} of {MANY} went out");
        worked += now;
        bed.go_to(bed.now.plus(TICK));
    }
}

#[test]
fn edits_of_many_configs_do_not_hold_up_a_schedule_that_is_due() {
    let mut bed = Bed::new();
    let others: Vec<_> =
        (0..1_300).map(|n| bed.config(&format!("other-{n}"), Some(every(3_600)), |_| {})).collect();
    let config = bed.config("cron", Some(every(10)), |_| {});
    bed.go_to(at(9_999));
    for other in others {
        bed.edit(other, |spec| spec.priority = 1);
    }
    bed.now = at(10_000);
    bed.step().unwrap();
    assert_eq!(bed.made(config), [10_000], "in the first turn");
    bed.settle();
}

#[test]
fn a_restart_fires_what_is_due_and_nothing_twice() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(10)), |_| {});
    bed.go_to(at(10_000));
    bed.work();
    bed.restart();
    bed.settle();
    assert_eq!(bed.made(config), [10_000]);
    bed.go_to(at(20_000));
    assert_eq!(bed.made(config), [10_000, 20_000]);
}

/// Edited while the process is away: what lies between the edit and now is missed like any other.
#[test]
fn an_edit_while_nobody_looks_counts_from_the_edit() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(3_600)), |_| {});
    bed.settle();
    bed.now = at(60_000);
    bed.edit(config, |spec| spec.schedule = Some(every(10)));
    bed.now = at(95_000);
    bed.restart();
    bed.settle();
    assert_eq!(bed.made(config), [90_000], "the newest of 70, 80 and 90");
    let cursors = done(bed.store.cursors()).unwrap();
    assert_eq!(cursors[0].missed, 2);
}

/// Others are left alone, however many there are.
#[test]
fn a_stale_answer_reads_its_own_cursor_alone() {
    let mut bed = Bed::new();
    let config = bed.config("cron", Some(every(10)), |_| {});
    for n in 0..100 {
        bed.config(&format!("other-{n}"), Some(every(3_600)), |_| {});
    }
    bed.settle();
    let cursor = done(bed.store.cursors_of(&[config])).expect("cursors_of").remove(0);
    let moved = Fire {
        config,
        cursor_version: cursor.version,
        config_version: cursor.config_version,
        overlap: Overlap::Skip,
        slots: Vec::new(),
        waiting: None,
        missed: 0,
        next_fire_at: Some(at(20_000)),
    };
    let moved = done(bed.store.fire(bed.owner, moved, bed.now)).expect("fire");
    assert!(matches!(moved, Fired::Moved { .. }), "{moved:?}");
    bed.calls();
    bed.go_to(at(10_000));
    let calls = bed.calls();
    assert_eq!((calls.get("cursors_of"), calls.get("cursors")), (Some(&1), None), "{calls:?}");
    assert!(bed.made(config).is_empty(), "that slot was handled");
    bed.go_to(at(20_000));
    assert_eq!(bed.made(config), [20_000]);
}
