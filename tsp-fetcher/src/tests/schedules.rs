//! When schedules fire, and when they do not.

use tsp_core::Timestamp;
use tsp_core::schedule::{Overlap, Schedule};
use tsp_store::catalog::Hold;
use tsp_store::fetching::{FetcherStore, Fire, FireResult};
use tsp_store_testing::fire_one;

use super::fixture::{Fixture, TICK, at, done, every, every_with};

fn next_fire(fixture: &Fixture, config: tsp_core::ConfigId) -> Option<Timestamp> {
    let cursors = done(fixture.store.cursors()).expect("cursors");
    cursors.iter().find(|cursor| cursor.config == config).and_then(|cursor| cursor.next_fire_at)
}

#[test]
fn the_first_fire_is_the_first_slot_after_creation() {
    let mut fixture = Fixture::new();
    fixture.run_until_idle();
    let config = fixture.config("cron", Some(every(10)), |_| {});
    fixture.inbox.changed(config);
    fixture.run_until_idle();
    assert!(fixture.made(config).is_empty(), "not at once, though the anchor is a slot");
    let report = fixture.go_to(at(9_999));
    assert_eq!(report.next, at(10_000));
    fixture.go_to(at(10_000));
    assert_eq!(fixture.made(config), [10_000]);
    assert_eq!(fixture.work().len(), 1, "made, claimed and published in one turn");
    fixture.go_to(at(20_000));
    fixture.work();
    fixture.go_to(at(30_000));
    assert_eq!(fixture.made(config), [10_000, 20_000, 30_000]);
}

#[test]
fn a_config_whose_hint_was_lost_fires_by_the_resync() {
    let mut fixture = Fixture::new();
    fixture.run_until_idle();
    fixture.now = at(100);
    let config = fixture.config("cron", Some(every_with(2, Overlap::Allow)), |_| {});
    fixture.go_to(at(6_000));
    assert_eq!(fixture.made(config), [4_000, 6_000], "the newest missed one, and those from then on");
}

#[test]
fn overlap_allow_fires_beside_what_is_open_and_not_before_its_time() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    fixture.go_to(at(9_999));
    assert!(fixture.made(config).is_empty(), "until then it may be held, changed or missed");
    fixture.go_to(at(10_000));
    assert_eq!(fixture.take().len(), 1);
    fixture.go_to(at(20_000));
    assert_eq!(fixture.take().len(), 1, "though the first is still open");
}

#[test]
fn an_edit_fires_nothing_of_the_past_and_nothing_twice() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every_with(10, Overlap::Allow)), |_| {});
    fixture.go_to(at(10_000));
    assert_eq!(fixture.made(config), [10_000]);
    fixture.edit(config, |spec| spec.priority = 3);
    fixture.go_to(at(12_000));
    fixture.work();
    assert_eq!(fixture.made(config), [10_000]);
    fixture.edit(config, |spec| spec.schedule = Some(every_with(3, Overlap::Allow)));
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000], "neither 3, 6 and 9 nor 12");
    fixture.go_to(at(15_000));
    assert_eq!(fixture.made(config), [10_000, 15_000]);
}

#[test]
fn what_stops_just_before_a_slot_never_fires_it_late() {
    let stops: [fn(&mut Fixture, tsp_core::ConfigId); 3] = [
        |fixture, config| fixture.pause(config),
        |fixture, config| fixture.hold(config, Hold::Disable),
        |fixture, config| {
            fixture.edit(config, |spec| spec.schedule = Some(every_with(50_000, Overlap::Allow)));
        },
    ];
    for (stop, overlap) in stops
        .iter()
        .flat_map(|stop| [Overlap::Allow, Overlap::Skip, Overlap::QueueOne].map(|overlap| (stop, overlap)))
    {
        let mut fixture = Fixture::new();
        let config = fixture.config("cron", Some(every_with(7_200, overlap)), |_| {});
        fixture.go_to(at(7_199_300));
        stop(&mut fixture, config);
        fixture.inbox.changed(config);
        fixture.go_to(at(36_000_000 - 1));
        fixture.hold(config, Hold::Resume);
        fixture.hold(config, Hold::Enable);
        fixture.edit(config, |spec| spec.schedule = Some(every_with(7_200, overlap)));
        fixture.run_until_idle();
        fixture.work();
        let made = fixture.made(config);
        assert!(!made.contains(&7_200_000), "{overlap:?}: {made:?}");
        fixture.go_to(at(36_000_000));
        assert_eq!(fixture.made(config).last(), Some(&36_000_000));
    }
}

#[test]
fn a_schedule_that_moves_to_an_earlier_slot_wakes() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(3_600)), |_| {});
    fixture.run_until_idle();
    fixture.now = at(100);
    fixture.edit(config, |spec| spec.schedule = Some(every(1)));
    let report = fixture.run_until_idle();
    assert_eq!(report.next, at(1_000));
}

#[test]
fn a_held_schedule_makes_nothing_and_goes_on_without_the_past() {
    for hint in [true, false] {
        let mut fixture = Fixture::new();
        let config = fixture.config("cron", Some(every(10)), |_| {});
        fixture.go_to(at(1_000));
        fixture.pause(config);
        fixture.inbox.changed(config);
        fixture.run_until_idle();
        fixture.calls();
        let report = fixture.go_to(at(4_900));
        assert!(fixture.calls().is_empty(), "a held schedule costs nothing");
        assert!(report.next > at(4_900));
        fixture.go_to(at(34_000));
        assert!(fixture.made(config).is_empty());
        fixture.hold(config, Hold::Disable);
        fixture.hold(config, Hold::Resume);
        fixture.go_to(at(45_000));
        assert!(fixture.made(config).is_empty(), "disabled");
        fixture.hold(config, Hold::Enable);
        if hint {
            fixture.inbox.changed(config);
        }
        fixture.go_to(at(49_999));
        assert!(fixture.made(config).is_empty(), "the slots before are not fired");
        // Without the hint the resync at 50 s finds it.
        fixture.go_to(at(50_000));
        assert_eq!(fixture.made(config), [50_000], "hint: {hint}");
    }
}

#[test]
fn a_schedule_taken_away_or_given_stops_or_starts() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(10)), |_| {});
    fixture.go_to(at(1_000));
    fixture.edit(config, |spec| spec.schedule = None);
    fixture.run_until_idle();
    fixture.calls();
    fixture.go_to(at(30_000));
    let calls = fixture.calls();
    assert!(!calls.contains_key("fire") && !calls.contains_key("cursors"), "{calls:?}");
    fixture.edit(config, |spec| spec.schedule = Some(every(10)));
    fixture.go_to(at(40_000));
    assert_eq!(fixture.made(config), [40_000]);
}

#[test]
fn a_schedule_that_has_ended_is_completed() {
    let mut fixture = Fixture::new();
    let ended = Schedule { end_at: Some(at(20_000)), ..every(10) };
    let config = fixture.config("cron", Some(ended), |_| {});
    for slot in [10_000, 20_000, 30_000] {
        fixture.go_to(at(slot));
        fixture.work();
    }
    assert_eq!(fixture.made(config), [10_000, 20_000]);
    assert_eq!(next_fire(&fixture, config), None);
    fixture.calls();
    fixture.go_to(at(60_000));
    assert!(!fixture.calls().contains_key("fire"), "nothing is left to do");
}

#[test]
fn a_schedule_that_begins_later_waits_for_its_start() {
    let mut fixture = Fixture::new();
    let later = Schedule { start_at: Some(at(15_000)), ..every(10) };
    let config = fixture.config("cron", Some(later), |_| {});
    fixture.go_to(at(20_000));
    assert_eq!(fixture.made(config), [20_000]);
}

#[test]
fn more_schedules_than_one_turn_handles_all_fire_at_their_time() {
    const MANY: usize = 1_300;
    let mut fixture = Fixture::new();
    let configs: Vec<_> =
        (0..MANY).map(|n| fixture.config(&format!("cron-{n}"), Some(every(60)), |_| {})).collect();
    fixture.run_until_idle();
    let report = fixture.go_to(at(60_000));
    assert_eq!(report.fired, MANY);
    assert!(configs.iter().all(|config| fixture.made(*config) == [60_000]));
    let mut worked = 0;
    fixture.go_to(fixture.now.plus(TICK));
    while worked < MANY {
        let now = fixture.work().len();
        assert!(now > 0, "{worked} of {MANY} went out");
        worked += now;
        fixture.go_to(fixture.now.plus(TICK));
    }
}

#[test]
fn edits_of_many_configs_do_not_hold_up_a_schedule_that_is_due() {
    let mut fixture = Fixture::new();
    let others: Vec<_> =
        (0..1_300).map(|n| fixture.config(&format!("other-{n}"), Some(every(3_600)), |_| {})).collect();
    let config = fixture.config("cron", Some(every(10)), |_| {});
    fixture.go_to(at(9_999));
    for other in others {
        fixture.edit(other, |spec| spec.priority = 1);
    }
    fixture.now = at(10_000);
    fixture.step().unwrap();
    assert_eq!(fixture.made(config), [10_000], "in the first turn");
    fixture.run_until_idle();
}

#[test]
fn a_restart_fires_what_is_due_and_nothing_twice() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(10)), |_| {});
    fixture.go_to(at(10_000));
    fixture.work();
    fixture.restart();
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000]);
    fixture.go_to(at(20_000));
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}

/// Edited while the process is down: what lies between the edit and now is missed like any other.
#[test]
fn an_edit_while_nobody_looks_counts_from_the_edit() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(3_600)), |_| {});
    fixture.run_until_idle();
    fixture.now = at(60_000);
    fixture.edit(config, |spec| spec.schedule = Some(every(10)));
    fixture.now = at(95_000);
    fixture.restart();
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [90_000], "the newest of 70, 80 and 90");
    let cursors = done(fixture.store.cursors()).unwrap();
    assert_eq!(cursors[0].missed, 2);
}

/// Others are left alone, however many there are.
#[test]
fn a_stale_answer_reads_its_own_cursor_alone() {
    let mut fixture = Fixture::new();
    let config = fixture.config("cron", Some(every(10)), |_| {});
    for n in 0..100 {
        fixture.config(&format!("other-{n}"), Some(every(3_600)), |_| {});
    }
    fixture.run_until_idle();
    let cursor = done(fixture.store.cursors_of(&[config])).expect("cursors_of").remove(0);
    let moved = Fire::without_slots(&fixture.cached_config(config), cursor.version, Some(at(20_000)));
    let moved = done(fire_one(&*fixture.store, fixture.owner, moved, fixture.now)).expect("fire");
    assert!(matches!(moved, FireResult::Moved { .. }), "{moved:?}");
    fixture.calls();
    fixture.go_to(at(10_000));
    let calls = fixture.calls();
    assert_eq!((calls.get("cursors_of"), calls.get("cursors")), (Some(&1), None), "{calls:?}");
    assert!(fixture.made(config).is_empty(), "that slot was handled");
    fixture.go_to(at(20_000));
    assert_eq!(fixture.made(config), [20_000]);
}

/// A turn takes many of one second in one call, and half of it is kept for edits.
#[test]
fn a_herd_fires_in_large_turns_and_keeps_no_edit_waiting() {
    let mut fixture = Fixture::new();
    for n in 0..900 {
        fixture.config(&format!("cron-{n}"), Some(every(10)), |_| {});
    }
    let others: Vec<_> =
        (0..300).map(|n| fixture.config(&format!("other-{n}"), Some(every(3_600)), |_| {})).collect();
    fixture.run_until_idle();
    fixture.now = at(10_000);
    assert_eq!(fixture.step().expect("no faults").fired, 500);
    for config in others {
        fixture.edit(config, |spec| spec.schedule = Some(every(1_800)));
    }
    assert_eq!(fixture.step().expect("no faults").fired, 250);
    assert_eq!(fixture.run_until_idle().fired, 150);
}
