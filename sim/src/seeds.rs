//! The seeds that run with every test. `SIM_SEEDS=20000 cargo test -p sim` runs that many of each plan, and
//! `SIM_SEEDS=492..493` those.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tsp_core::Millis;

use crate::broken::Bug;
use crate::cluster::{Cluster, ClusterBug, ClusterPlan};
use crate::coverage::Coverage;
use crate::harness::{Harness, Story};
use crate::plan::Plan;

const ROUGH_SEEDS: u64 = 200;
const SMOOTH_SEEDS: u64 = 5;
const CLUSTER_SEEDS: u64 = 20;
/// Seeds that failed once.
const KEPT: &str = include_str!("../seeds.txt");

/// Which seeds of a plan run.
#[expect(clippy::disallowed_methods, reason = "a person asks for other seeds, in a test only")]
fn wanted(usual: u64) -> Range<u64> {
    let Ok(wanted) = std::env::var("SIM_SEEDS") else { return 0..usual };
    let seed = |text: &str| text.parse().expect("`SIM_SEEDS`: a number of seeds, or `from..to`");
    wanted.split_once("..").map_or_else(|| 0..seed(&wanted), |(from, to)| seed(from)..seed(to))
}

fn kept(plan: &str) -> Vec<u64> {
    let words = KEPT.lines().filter(|line| !line.starts_with('#')).map(str::split_whitespace);
    let seeds = words.filter_map(|mut line| (line.next()? == plan).then(|| line.next())?);
    seeds.map(|seed| seed.parse().expect("`seeds.txt`: a plan, a seed, # why")).collect()
}

/// Runs the seeds of a plan, those that were kept first, and more while something is not covered. One that fails says
/// which line to add to `seeds.txt`.
fn all_seeds(plan: &str, usual: u64, covers: bool, mut run: impl FnMut(u64) -> Story) -> Coverage {
    let mut coverage = Coverage::default();
    let (mut longest, mut happened, mut seeds) = ((Millis::ZERO, 0), 0, 0);
    let Range { start, end } = wanted(usual);
    let drawn = (start..start + 3 * (end - start)).map(|seed| (seed, seed >= end));
    for (seed, more) in kept(plan).into_iter().map(|seed| (seed, false)).chain(drawn) {
        if more && (!covers || coverage.missing().is_empty()) {
            break;
        }
        seeds += 1;
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(story) => {
                coverage.add(&story.coverage);
                longest = longest.max((story.rested_after, seed));
                happened += story.history.len();
            }
            Err(panic) => {
                let text = said(panic.as_ref());
                let why = text.lines().next().unwrap_or_default();
                eprintln!("add to sim/seeds.txt:\n{plan} {seed} # {why}");
                resume_unwind(panic);
            }
        }
    }
    eprintln!("{plan}: the longest way to rest took {} ms, of seed {}", longest.0.ms(), longest.1);
    assert!(happened > 200 * seeds, "{plan}: hardly anything happened");
    coverage
}

pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn the_promises_hold_whatever_happens() {
    let coverage = all_seeds("rough", ROUGH_SEEDS, true, |seed| Harness::new(Plan::rough(seed)).run());
    let missing = coverage.missing();
    assert!(missing.is_empty(), "no seed reached these: {missing:?}");
}

#[test]
fn in_health_callbacks_are_on_time() {
    let promptly = |seed| Harness::new(Plan::smooth(seed)).run_promptly(Millis::from_ms(5));
    all_seeds("smooth", SMOOTH_SEEDS, false, promptly);
}

#[test]
fn the_promises_hold_in_a_cluster() {
    let mut unseen =
        vec!["kill -9", "stands still", "clock steps", "owns the pair, epoch 3", "crash", "paused"];
    all_seeds("cluster", CLUSTER_SEEDS, false, |seed| {
        let story = Cluster::new(ClusterPlan::rough(seed)).run();
        unseen.retain(|what| !story.history.iter().any(|line| line.contains(what)));
        story
    });
    assert!(unseen.is_empty(), "no seed showed these: {unseen:?}");
}

#[test]
fn one_seed_gives_one_history_of_a_cluster() {
    for seed in [3, 14] {
        let first = Cluster::new(ClusterPlan::rough(seed)).run();
        let second = Cluster::new(ClusterPlan::rough(seed)).run();
        let differ = first.history.iter().zip(&second.history).position(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: the histories differ");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn every_known_bug_of_a_cluster_is_caught() {
    let bugs = [
        (ClusterBug::RescuedNodeFinishes, "closes its own attempt"),
        (ClusterBug::BarrierDoesNotWait, "no begin after an answered pause"),
        (ClusterBug::LeaseNotAsked, "under an epoch that is over"),
    ];
    for (bug, promise) in bugs {
        let mut said_so = Vec::new();
        let caught = (0..SEEDS_PER_BUG).any(|seed| {
            let plan = ClusterPlan { bug: Some(bug), ..ClusterPlan::rough(seed) };
            let run = catch_unwind(AssertUnwindSafe(|| Cluster::new(plan).run()));
            let text = run.err().map_or_else(String::new, |panic| said(panic.as_ref()));
            said_so.extend(text.lines().next().map(str::to_owned));
            text.contains(promise)
        });
        assert!(caught, "{bug:?} must break `{promise}`; the seeds said: {said_so:#?}");
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in [3, 14, 41] {
        let first = Harness::new(Plan::rough(seed)).run();
        let second = Harness::new(Plan::rough(seed)).run();
        let differ = first.history.iter().zip(&second.history).position(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}: the histories differ");
        assert_eq!(first, second, "seed {seed}");
    }
}

const SEEDS_PER_BUG: u64 = 400;

/// What one seed says of a store with this bug.
fn said_of(bug: Bug, seed: u64) -> Option<String> {
    let run = catch_unwind(|| Harness::new(Plan { bug: Some(bug), ..Plan::rough(seed) }).run());
    run.err().map(|panic| said(panic.as_ref()))
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
        (Bug::PartSavedAllTold, "an attempt that runs is lost only with its process"),
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
