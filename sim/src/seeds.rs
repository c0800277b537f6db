//! The seeds that run with every test.

use std::panic::catch_unwind;

use tsp_core::Millis;

use crate::broken::Bug;
use crate::world::{Plan, World};

const ROUGH_SEEDS: u64 = 100;
const SMOOTH_SEEDS: u64 = 10;

#[test]
fn the_promises_hold_whatever_happens() {
    for seed in 0..ROUGH_SEEDS {
        let history = World::new(Plan::rough(seed)).run();
        assert!(history.len() > 100, "seed {seed}: hardly anything happened");
    }
}

#[test]
fn in_health_callbacks_are_on_time() {
    for seed in 0..SMOOTH_SEEDS {
        World::new(Plan::smooth(seed)).run_promptly(Millis::from_ms(5));
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in [3, 14, 41] {
        let first = World::new(Plan::rough(seed)).run();
        let second = World::new(Plan::rough(seed)).run();
        let differ = first.iter().zip(&second).position(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: the histories differ");
        assert_eq!(first.len(), second.len(), "seed {seed}: one history is longer");
    }
}

const SEEDS_PER_BUG: u64 = 100;

/// What one seed says of a world with this bug.
fn said_of(bug: Bug, seed: u64) -> Option<String> {
    let run = catch_unwind(|| World::new(Plan { bug: Some(bug), ..Plan::rough(seed) }).run());
    run.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned()),
    })
}

#[test]
fn every_known_bug_is_caught() {
    let bugs = [
        (Bug::BeginTakesAnyVersion, "never early"),
        (Bug::FinishTakesAnyAttempt, "closes its own attempt"),
        (Bug::ClaimIgnoresEpoch, "under an epoch that is over"),
        (Bug::LostNodesStay, "does not come to rest"),
        (Bug::NothingIsRearmed, "does not come to rest"),
        (Bug::NoReconcile, "does not come to rest"),
        (Bug::NoDeadline, "does not come to rest"),
        (Bug::SlotsTwice, "exactly once"),
        (Bug::SubmitNotDurable, "was lost"),
        (Bug::PauseNotHeeded, "no begin after an answered pause"),
        (Bug::CancelForgotten, "no begin after `cancelled`"),
        (Bug::FlagForgotten, "no new attempt after `too_late`"),
        (Bug::AnyToken, "a wrong token completed"),
        (Bug::FinishForgetsTheTask, "an attempt that runs is lost only with its process"),
        (Bug::DeadlineEndsWhatRuns, "one call of a task on the wire at a time"),
        (Bug::WorkOutlivesDelete, "does not come to rest"),
    ];
    for (bug, promise) in bugs {
        let mut said = Vec::new();
        let caught = (0..SEEDS_PER_BUG).any(|seed| {
            let text = said_of(bug, seed).unwrap_or_default();
            let caught = text.contains(promise);
            said.extend(text.lines().next().map(str::to_owned));
            caught
        });
        assert!(caught, "{bug:?} must break `{promise}`; the seeds said: {said:#?}");
    }
}
