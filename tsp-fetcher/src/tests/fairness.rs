//! A flood of one app, whatever it is made of, takes one turn among the apps.

use tsp_core::schedule::Overlap;
use tsp_core::task::Status;
use tsp_core::{ConfigId, TaskId};
use tsp_store::schedule::{ScheduleStore as _, Want};

use super::bed::{Bed, at, done, every_with};
use crate::FetcherOptions;

/// Room for all that a test publishes.
const ROOM: usize = 40_000;

fn bed() -> Bed {
    Bed::with(FetcherOptions::default(), ROOM)
}

/// Overdue by a second, a task for each.
fn flood(bed: &Bed, configs: usize, priority: u8) -> Vec<ConfigId> {
    let mut flood = Vec::with_capacity(configs);
    for n in 0..configs {
        let config = bed.delayed(&format!("flood-{n}"));
        if priority != 2 {
            bed.edit(config, |spec| spec.priority = priority);
        }
        bed.submit_silently(config, at(0));
        flood.push(config);
    }
    flood
}

/// How many turns it takes until a task is in the pipe.
fn turns_until_published(bed: &mut Bed, task: TaskId) -> usize {
    for turn in 1..=100 {
        bed.step().unwrap();
        if bed.taken().contains(&task) {
            return turn;
        }
        bed.now = bed.now.plus(super::bed::TICK);
    }
    panic!("{task} was not published");
}

#[test]
fn ten_thousand_overdue_configs_of_one_app_delay_no_other() {
    let mut bed = bed();
    flood(&bed, 10_000, 2);
    bed.next_app("other");
    let other = bed.delayed("one");
    let task = bed.submit_silently(other, at(900));
    bed.now = at(1_000);
    assert_eq!(turns_until_published(&mut bed, task), 1);
    // Also one that comes when the flood is being worked off.
    for _ in 0..5 {
        bed.step().unwrap();
    }
    let task = bed.submit(other, bed.now);
    assert!(turns_until_published(&mut bed, task) <= 2, "claimed at once, and published in the next tick");
}

#[test]
fn apps_share_the_rows_of_a_claim_however_many_configs_they_have() {
    let mut bed = bed();
    for config in flood(&bed, 300, 2) {
        bed.submit_many(config, &[at(0); 100]);
    }
    bed.next_app("other");
    let other = bed.delayed("one");
    bed.submit_many(other, &vec![at(900); 600]);
    bed.now = at(1_000);
    bed.step().unwrap();
    let taken = bed.taken();
    let own = taken.iter().filter(|task| bed.task(**task).config == other).count();
    assert_eq!(own, 512, "as many as one config may have in the pipe, of {}", taken.len());
}

#[test]
fn a_lower_priority_is_claimed_from_though_higher_ones_are_overdue() {
    let mut bed = bed();
    flood(&bed, 1_000, 4);
    let low = bed.delayed("low");
    bed.edit(low, |spec| spec.priority = 0);
    let task = bed.submit_silently(low, at(900));
    bed.now = at(1_000);
    assert_eq!(turns_until_published(&mut bed, task), 1);
}

#[test]
fn a_config_whose_priority_rises_goes_with_its_new_neighbours() {
    let mut bed = bed();
    flood(&bed, 2_000, 2);
    let last = bed.delayed("last");
    let task = bed.submit_silently(last, at(900));
    bed.now = at(1_000);
    bed.step().unwrap();
    assert_eq!(bed.status(task), Status::Scheduled, "many of its app are before it");
    bed.edit(last, |spec| spec.priority = 3);
    assert!(turns_until_published(&mut bed, task) <= 2, "claimed at once, and published in the next tick");
}

#[test]
fn schedules_of_one_app_delay_those_of_no_other() {
    let mut bed = bed();
    let schedule = || Some(every_with(3_600, Overlap::Skip));
    for n in 0..2_000 {
        bed.config(&format!("cron-{n}"), schedule(), |_| {});
    }
    bed.next_app("other");
    let other = bed.config("one", schedule(), |_| {});
    bed.settle();
    bed.go_to(at(3_599_999));
    bed.now = at(3_600_000);
    bed.step().unwrap();
    assert_eq!(bed.made(other), [3_600_000], "in the first of many turns");
}

/// The rows of a process that is gone come back bit by bit, and what is due goes out meanwhile.
#[test]
fn a_mass_of_claimed_rows_is_given_back_in_portions() {
    let mut bed = bed();
    let config = bed.delayed("flood");
    bed.submit_many(config, &vec![at(60_000); 6_000]);
    let want = Want { config, due_by: at(60_000), limit: 6_000 };
    done(bed.store.claim(bed.owner, vec![want], at(0))).unwrap();
    bed.restart();
    bed.next_app("other");
    let other = bed.delayed("one");
    let task = bed.submit(other, at(0));
    bed.calls();
    let report = bed.step().unwrap();
    assert_eq!((report.rescued, report.published), (2_000, 1));
    assert_eq!((bed.calls()["rearm"], bed.taken()), (4, vec![task]), "no transaction of more than 500 rows");
    assert_eq!(report.next, bed.now, "and it goes on at once");
    assert_eq!(bed.settle().rescued, 4_000);
    let open = bed.store.dump().open;
    assert!(open.iter().filter(|row| row.config == config).all(|row| row.status == Status::Scheduled));
}

#[test]
fn a_walk_that_fails_is_begun_again() {
    let mut bed = bed();
    let config = bed.delayed("flood");
    bed.submit_many(config, &vec![at(60_000); 6_000]);
    let want = Want { config, due_by: at(60_000), limit: 6_000 };
    done(bed.store.claim(bed.owner, vec![want], at(0))).unwrap();
    bed.restart();
    bed.step().unwrap();
    bed.fail("rearm", &[tsp_store::memory::Fault::After]);
    bed.step().expect_err("the fault");
    assert_eq!(bed.settle().rescued, 3_500, "those whose answer was lost are back as well");
}
