//! A flood of one app, whatever it is made of, takes one turn among the apps.

use tsp_core::schedule::Overlap;
use tsp_core::task::Status;
use tsp_core::{ConfigId, TaskId};
use tsp_store::fetching::{ClaimRequest, FetcherStore as _};

use super::fixture::{Fixture, at, done, every_with};
use crate::FetcherOptions;

/// Room for all that a test publishes.
const ROOM: usize = 40_000;

fn fixture() -> Fixture {
    Fixture::with(FetcherOptions::default(), ROOM)
}

/// Overdue by a second, a task for each.
fn flood(fixture: &Fixture, configs: usize, priority: u8) -> Vec<ConfigId> {
    let mut flood = Vec::with_capacity(configs);
    for n in 0..configs {
        let config = fixture.delayed(&format!("flood-{n}"));
        if priority != 2 {
            fixture.edit(config, |spec| spec.priority = priority);
        }
        fixture.submit_silently(config, at(0));
        flood.push(config);
    }
    flood
}

/// How many turns it takes until a task is in the pipe.
fn turns_until_published(fixture: &mut Fixture, task: TaskId) -> usize {
    for turn in 1..=100 {
        fixture.step().unwrap();
        if fixture.taken().contains(&task) {
            return turn;
        }
        fixture.now = fixture.now.plus(super::fixture::TICK);
    }
    panic!("{task} was not published");
}

#[test]
fn ten_thousand_overdue_configs_of_one_app_delay_no_other() {
    let mut fixture = fixture();
    flood(&fixture, 10_000, 2);
    fixture.next_app("other");
    let other = fixture.delayed("one");
    let task = fixture.submit_silently(other, at(900));
    fixture.now = at(1_000);
    assert_eq!(turns_until_published(&mut fixture, task), 1);
    // Also one that comes when the flood is being worked off.
    for _ in 0..5 {
        fixture.step().unwrap();
    }
    let task = fixture.submit(other, fixture.now);
    assert!(
        turns_until_published(&mut fixture, task) <= 2,
        "claimed at once, and published in the next tick"
    );
}

#[test]
fn apps_share_the_rows_of_a_claim_however_many_configs_they_have() {
    let mut fixture = fixture();
    for config in flood(&fixture, 300, 2) {
        fixture.submit_many(config, &[at(0); 100]);
    }
    fixture.next_app("other");
    let other = fixture.delayed("one");
    fixture.submit_many(other, &vec![at(900); 600]);
    fixture.now = at(1_000);
    fixture.step().unwrap();
    let taken = fixture.taken();
    let own = taken.iter().filter(|task| fixture.task(**task).config == other).count();
    assert_eq!(own, 512, "as many as one config may have in the pipe, of {}", taken.len());
}

#[test]
fn a_lower_priority_is_claimed_from_though_higher_ones_are_overdue() {
    let mut fixture = fixture();
    flood(&fixture, 1_000, 4);
    let low = fixture.delayed("low");
    fixture.edit(low, |spec| spec.priority = 0);
    let task = fixture.submit_silently(low, at(900));
    fixture.now = at(1_000);
    assert_eq!(turns_until_published(&mut fixture, task), 1);
}

#[test]
fn a_config_whose_priority_rises_goes_with_its_new_neighbours() {
    let mut fixture = fixture();
    flood(&fixture, 2_000, 2);
    let last = fixture.delayed("last");
    let task = fixture.submit_silently(last, at(900));
    fixture.now = at(1_000);
    fixture.step().unwrap();
    assert_eq!(fixture.status(task), Status::Scheduled, "many of its app are before it");
    fixture.edit(last, |spec| spec.priority = 3);
    assert!(
        turns_until_published(&mut fixture, task) <= 2,
        "claimed at once, and published in the next tick"
    );
}

#[test]
fn schedules_of_one_app_delay_those_of_no_other() {
    let mut fixture = fixture();
    let schedule = || Some(every_with(3_600, Overlap::Skip));
    for n in 0..2_000 {
        fixture.config(&format!("cron-{n}"), schedule(), |_| {});
    }
    fixture.next_app("other");
    let other = fixture.config("one", schedule(), |_| {});
    fixture.run_until_idle();
    fixture.go_to(at(3_599_999));
    fixture.now = at(3_600_000);
    fixture.step().unwrap();
    assert_eq!(fixture.made(other), [3_600_000], "in the first of many turns");
}

/// The rows of a process that is gone come back bit by bit, and what is due goes out meanwhile.
#[test]
fn a_mass_of_claimed_rows_is_given_back_in_portions() {
    let mut fixture = fixture();
    let config = fixture.delayed("flood");
    fixture.submit_many(config, &vec![at(60_000); 6_000]);
    let request = ClaimRequest { config, due_by: at(60_000), limit: 6_000 };
    done(fixture.store.claim(fixture.owner, vec![request], at(0))).unwrap();
    fixture.restart();
    fixture.next_app("other");
    let other = fixture.delayed("one");
    let task = fixture.submit(other, at(0));
    fixture.calls();
    let report = fixture.step().unwrap();
    assert_eq!((report.rescued, report.published), (2_000, 1));
    assert_eq!(
        (fixture.calls()["rearm"], fixture.taken()),
        (4, vec![task]),
        "no transaction of more than 500 rows"
    );
    assert_eq!(report.next, fixture.now, "and it goes on at once");
    assert_eq!(fixture.run_until_idle().rescued, 4_000);
    let open = fixture.store.dump().open;
    assert!(open.iter().filter(|row| row.config == config).all(|row| row.status == Status::Scheduled));
}

#[test]
fn a_walk_that_fails_is_begun_again() {
    let mut fixture = fixture();
    let config = fixture.delayed("flood");
    fixture.submit_many(config, &vec![at(60_000); 6_000]);
    let request = ClaimRequest { config, due_by: at(60_000), limit: 6_000 };
    done(fixture.store.claim(fixture.owner, vec![request], at(0))).unwrap();
    fixture.restart();
    fixture.step().unwrap();
    fixture.fail("rearm", &[tsp_store_testing::memory::Fault::After]);
    fixture.step().expect_err("the fault");
    assert_eq!(fixture.run_until_idle().rescued, 3_500, "those whose answer was lost are back as well");
}
