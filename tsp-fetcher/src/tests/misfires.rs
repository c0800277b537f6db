//! Slots that came while nobody was there.

use tsp_core::schedule::{Misfire, MisfirePolicy, Overlap, Schedule};
use tsp_core::{ConfigId, Millis};
use tsp_store::fetching::FetcherStore;

use super::fixture::{Fixture, at, done, every};

/// Slots each 10 s; the process is down from 1 s to `back_s` seconds.
fn after_an_outage(misfire: Misfire, back_s: i64) -> (Fixture, ConfigId) {
    let mut fixture = Fixture::new();
    let schedule = Schedule { misfire, overlap: Overlap::Allow, ..every(10) };
    let config = fixture.config("cron", Some(schedule), |_| {});
    fixture.go_to(at(1_000));
    fixture.now = at(back_s * 1_000);
    fixture.restart();
    fixture.run_until_idle();
    (fixture, config)
}

fn missed(fixture: &Fixture, config: ConfigId) -> i64 {
    let cursors = done(fixture.store.cursors()).expect("cursors");
    cursors.iter().find(|cursor| cursor.config == config).expect("its cursor").missed
}

fn late(fixture: &Fixture) -> Vec<bool> {
    fixture.store.dump().occurrences.iter().map(|occurrence| occurrence.late).collect()
}

#[test]
fn fire_once_makes_the_newest() {
    let misfire = Misfire { policy: MisfirePolicy::FireOnce, grace: Millis::from_secs(60) };
    let (mut fixture, config) = after_an_outage(misfire, 55);
    assert_eq!(fixture.made(config), [50_000]);
    assert_eq!((missed(&fixture, config), late(&fixture)), (4, vec![false]));
    assert_eq!(fixture.work().len(), 1);
    fixture.go_to(at(60_000));
    assert_eq!(fixture.made(config), [50_000, 60_000]);
}

#[test]
fn what_is_made_beyond_the_grace_is_marked_late() {
    let misfire = Misfire { policy: MisfirePolicy::FireOnce, grace: Millis::from_secs(3) };
    let (fixture, config) = after_an_outage(misfire, 55);
    assert_eq!((fixture.made(config), late(&fixture)), (vec![50_000], vec![true]));
}

#[test]
fn fire_all_makes_the_newest_so_many() {
    let misfire = Misfire { policy: MisfirePolicy::FireAll { max: 3 }, grace: Millis::from_secs(15) };
    let (fixture, config) = after_an_outage(misfire, 55);
    assert_eq!(fixture.made(config), [30_000, 40_000, 50_000]);
    assert_eq!((missed(&fixture, config), late(&fixture)), (2, vec![true, false, false]));
    let misfire = Misfire { policy: MisfirePolicy::FireAll { max: 100 }, ..misfire };
    let (fixture, config) = after_an_outage(misfire, 55);
    assert_eq!((fixture.made(config).len(), missed(&fixture, config)), (5, 0));
}

#[test]
fn skip_makes_the_newest_only_within_the_grace() {
    let misfire = Misfire { policy: MisfirePolicy::Skip, grace: Millis::from_secs(5) };
    let (fixture, config) = after_an_outage(misfire, 55);
    assert_eq!((fixture.made(config), missed(&fixture, config)), (vec![50_000], 4));
    let (mut fixture, config) = after_an_outage(misfire, 56);
    assert_eq!((fixture.made(config), missed(&fixture, config)), (vec![], 5));
    fixture.go_to(at(60_000));
    assert_eq!(fixture.made(config), [60_000]);
}

/// A node that stops or freezes just before a slot and is back seven seconds after it.
#[test]
fn a_stop_just_before_a_slot_obeys_the_policy_after_it() {
    for (policy, made) in [(MisfirePolicy::Skip, vec![]), (MisfirePolicy::FireOnce, vec![10_000])] {
        for is_frozen in [true, false] {
            let mut fixture = Fixture::new();
            let misfire = Misfire { policy, grace: Millis::from_ms(100) };
            let schedule = Schedule { misfire, overlap: Overlap::Allow, ..every(10) };
            let config = fixture.config("cron", Some(schedule), |_| {});
            fixture.go_to(at(9_300));
            fixture.now = at(17_200);
            if !is_frozen {
                fixture.restart();
            }
            fixture.run_until_idle();
            assert_eq!(fixture.work().len(), made.len());
            assert_eq!(fixture.made(config), made, "{policy:?}, frozen: {is_frozen}");
            assert!(late(&fixture).iter().all(|late| *late));
        }
    }
}

#[test]
fn a_slot_at_this_very_moment_is_not_missed() {
    let misfire = Misfire { policy: MisfirePolicy::Skip, grace: Millis::ZERO };
    let (fixture, config) = after_an_outage(misfire, 50);
    assert_eq!((fixture.made(config), missed(&fixture, config)), (vec![50_000], 4));
}

#[test]
fn an_end_during_the_outage_counts() {
    let mut fixture = Fixture::new();
    let misfire = Misfire { policy: MisfirePolicy::FireAll { max: 10 }, ..Misfire::default() };
    let schedule = Schedule { misfire, overlap: Overlap::Allow, end_at: Some(at(25_000)), ..every(10) };
    let config = fixture.config("cron", Some(schedule), |_| {});
    fixture.go_to(at(1_000));
    fixture.now = at(55_000);
    fixture.restart();
    fixture.run_until_idle();
    assert_eq!(fixture.made(config), [10_000, 20_000]);
}
