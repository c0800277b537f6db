//! The seeds that run with every test.

use tsp_core::Millis;

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
