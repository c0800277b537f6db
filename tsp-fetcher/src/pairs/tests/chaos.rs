//! Everything at once, by chance. The world checks all the time that no two owners pass; when the trouble
//! is over, all pairs run and are spread evenly.

use std::sync::Arc;

use tsp_core::Millis;

use super::world::{DATABASES, World, for_seeds};

const PROCESSES: u64 = 4;
const ROUNDS: u64 = 40;

#[test]
fn no_trouble_lets_two_owners_write() {
    for_seeds(20, async |world| {
        let mut alive: Vec<usize> = (0..PROCESSES).map(|_| world.start()).collect();
        world.lose_answers(15);
        for _ in 0..ROUNDS {
            trouble(&world, &mut alive);
            world.seconds(world.chance(4)).await;
        }
        world.heal();
        world.seconds(20).await;
        // Whoever took back what it gave up during the trouble waits a minute before it gives again.
        world.seconds(75).await;
        world.assert_spread(&alive);
        world.forget_gaps();
        world.seconds(5).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(50), "seed {}: all run: {gap:?}", world.seed);
    });
}

fn trouble(world: &Arc<World>, alive: &mut [usize]) {
    let at = usize::try_from(world.chance(PROCESSES)).unwrap();
    let database = DATABASES[usize::try_from(world.chance(3)).unwrap()];
    let index = alive[at];
    match world.chance(11) {
        0 => {
            world.kill(index);
            alive[at] = world.start();
        }
        1 => {
            world.stop(index);
            alive[at] = world.start();
        }
        2 | 3 => world.freeze(index, true),
        4 | 5 => alive.iter().for_each(|index| world.freeze(*index, false)),
        6 => world.cut(index, database, true),
        7 => {
            let by = i64::try_from(world.chance(16_000)).unwrap() - 8_000;
            world.step_clock(database, Millis::from_ms(by));
        }
        8 => world.deafen(index, database),
        9 => alive.iter().for_each(|index| world.cut(*index, database, true)),
        _ => world.heal(),
    }
}
