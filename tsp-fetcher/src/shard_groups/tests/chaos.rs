//! Everything at once, by chance. The harness checks all the time that no two owners pass; when the faults
//! are over, all shard groups run and are spread evenly.

use std::sync::Arc;

use tsp_core::Millis;

use super::harness::{DATABASES, Harness, for_seeds};

const PROCESSES: u64 = 4;
const ROUNDS: u64 = 40;

#[test]
fn no_trouble_lets_two_owners_write() {
    for_seeds(20, async |harness| {
        let mut alive: Vec<usize> = (0..PROCESSES).map(|_| harness.start()).collect();
        harness.lose_answers(15);
        for _ in 0..ROUNDS {
            trouble(&harness, &mut alive);
            harness.seconds(harness.rng(4)).await;
        }
        harness.heal();
        harness.seconds(20).await;
        // Whoever took back what it handed over during the faults waits a minute before the next handover.
        harness.seconds(75).await;
        harness.assert_spread(&alive);
        harness.forget_gaps();
        harness.seconds(5).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(50), "seed {}: all run: {gap:?}", harness.seed);
    });
}

fn trouble(harness: &Arc<Harness>, alive: &mut [usize]) {
    let at = usize::try_from(harness.rng(PROCESSES)).unwrap();
    let database = DATABASES[usize::try_from(harness.rng(3)).unwrap()];
    let index = alive[at];
    match harness.rng(11) {
        0 => {
            harness.kill(index);
            alive[at] = harness.start();
        }
        1 => {
            harness.stop(index);
            alive[at] = harness.start();
        }
        2 | 3 => harness.freeze(index, true),
        4 | 5 => alive.iter().for_each(|index| harness.freeze(*index, false)),
        6 => harness.cut(index, database, true),
        7 => {
            let by = i64::try_from(harness.rng(16_000)).unwrap() - 8_000;
            harness.step_clock(database, Millis::from_ms(by));
        }
        8 => harness.deafen(index, database),
        9 => alive.iter().for_each(|index| harness.cut(*index, database, true)),
        _ => harness.heal(),
    }
}
