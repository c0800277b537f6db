//! kill -9 at random moments under load, with a ledger of what was promised.
//!
//! `TSP_CHAOS_KILLS` sets how often (`make chaos`); without it a short run is made.

use std::time::Duration;

use serde_json::Value;

use crate::harness::ledger::{
    Ledger, Load, Pace, check_arrivals, decide_slowly, every_task_arrived, one_task_for_each_key, patience,
};
use crate::harness::operators::Operators;
use crate::harness::wire::{by_attempt, overlapping};
use crate::harness::{Config, PATIENCE, Scene, TestRng, backoff, now};

/// Each submitter makes the next submit when the one before has been answered.
fn pace(submitters: u64) -> Pace {
    Pace { submitters, every: Duration::from_millis(10), tasks: 1 }
}

fn kills() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the length of a run is chosen where it is started")]
    let text = std::env::var("TSP_CHAOS_KILLS");
    text.map_or(6, |text| text.parse().expect("`TSP_CHAOS_KILLS` is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_early_or_twice_at_once() {
    let mut scene = Scene::new().await;
    let config = |config: Config| config.set("retry", backoff(50, "200ms")).set("timeout", patience());
    scene.delayed("work", config).await;
    scene.receiver.on("/work", decide_slowly);
    let ledger = Ledger::default();
    let load = Load::start(std::slice::from_ref(&scene.api), pace(4), &ledger);
    let mut rng = TestRng::fresh();
    let operators = Operators::start(std::slice::from_ref(&scene.api), &scene.receiver, &mut rng).await;
    let (kills, mut killed_at) = (kills(), Vec::new());
    for kill in 1..=kills {
        // After so many more callbacks: the moment is random, and there is always work in hand.
        let further = usize::try_from(20 + rng.below(400)).unwrap();
        let seen = scene.receiver.count();
        scene.receiver.nth(seen + further).await;
        let from = now();
        scene.tsp.kill9().await;
        killed_at.push((from, now()));
        scene.tsp.restart().await;
        println!("kill {kill}: {} accepted, {} arrived", ledger.len(), scene.receiver.count());
    }
    load.stop().await;
    let stories = operators.stop().await;
    every_task_arrived(&scene.receiver, &ledger, PATIENCE).await;
    for id in ledger.ids() {
        scene.api.wait_for_end(&id, "succeeded").await;
    }
    one_task_for_each_key(&scene.api, ledger.len()).await;
    scene.tsp.stop().await;

    let arrivals = scene.receiver.arrivals();
    let repeats = arrivals.iter().filter(|one| one.attempt() > 1).count();
    println!("{kills} kills, {} accepted, {} arrivals, {repeats} repeats", ledger.len(), arrivals.len());
    let late_sends = check_arrivals(&arrivals);
    assert!(late_sends <= kills * 128, "{late_sends} late sends");
    check_store(&scene);
    let killed = |from, to| killed_at.iter().any(|(began, ended)| from <= *ended && *began <= to);
    stories.check(&arrivals, |_, from, to| killed(from, to));
    let overlapping = overlapping(&arrivals);
    println!("{} calls of one task at a time with another", overlapping.len());
    for [first, second] in overlapping {
        assert!(
            stories.completed(first, second.at) || killed(first.at, second.at),
            "two calls at once, and nobody was killed: {first:?}, {second:?}"
        );
    }
    let (lost, sent) = (scene.tsp.lost(), by_attempt(&arrivals));
    println!("{} attempts were lost", lost.len());
    for lost in lost.iter().filter(|lost| lost.was_sent(&sent)) {
        assert!(killed(lost.began_at, lost.closed_at), "a healthy attempt was declared lost: {lost:?}");
    }
}

/// By the store's own record no attempt of a task begins before the one before it has ended.
fn check_store(scene: &Scene) {
    assert_eq!(scene.tsp.overlaps(), 0, "attempts of one task overlap in the store");
    assert_eq!(scene.tsp.open_rows(), 0, "rows are left open although every task has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_retried_submits_makes_exactly_one_task_per_key() {
    let mut scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let ledger = Ledger::default();
    let load = Load::start(std::slice::from_ref(&scene.api), pace(16), &ledger);
    let mut rng = TestRng::fresh();
    for _ in 0..3 {
        let wanted = ledger.len() + usize::try_from(50 + rng.below(200)).unwrap();
        let moment = now();
        let enough = ledger.clone();
        let reached = move |_: &Value| enough.len() >= wanted;
        scene.api.wait_until("/apps", format!("{wanted} accepted since {moment}"), reached).await;
        scene.tsp.kill9().await;
        scene.tsp.restart().await;
    }
    load.stop().await;
    let count = ledger.len();
    one_task_for_each_key(&scene.api, count).await;
    println!("{count} keys through 3 kills, one task each");
}
