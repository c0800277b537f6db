//! What is promised of takeovers, each with one kind of trouble.

use tsp_core::Millis;

use super::world::{DATABASES, all_pairs, for_seeds};

const TAKEOVER: Millis = Millis::from_secs(10);
const SEEDS: u64 = 8;

#[test]
fn processes_that_start_together_share_evenly_and_rest() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(12).await;
        world.assert_spread(&all);
        world.forget_gaps();
        world.seconds(30).await;
        world.assert_spread(&all);
        assert!(world.longest_gap(|_| true).ms() <= 50, "seed {}: something moved", world.seed);
    });
}

#[test]
fn what_a_killed_process_had_runs_elsewhere_within_ten_seconds() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15 + world.chance(3)).await;
        world.forget_gaps();
        world.kill(all[0]);
        world.seconds(20).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
        world.assert_spread(&all[1..]);
    });
}

#[test]
fn all_but_one_may_be_killed_at_once() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        world.forget_gaps();
        world.kill(all[0]);
        world.kill(all[2]);
        world.seconds(20).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
        assert_eq!(world.runs(all[1]), all_pairs());
    });
}

#[test]
fn a_process_that_stops_hands_over_at_once() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        world.forget_gaps();
        world.stop(all[1]);
        world.seconds(10).await;
        assert!(world.has_ended(all[1]), "seed {}", world.seed);
        let gap = world.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_500), "seed {}: {gap:?}", world.seed);
        world.assert_spread(&[all[0], all[2]]);
        assert_eq!(world.longest_overlap(), Millis::ZERO, "seed {}", world.seed);
    });
}

#[test]
fn a_process_that_comes_gets_its_share_one_pair_at_a_time() {
    for_seeds(SEEDS, async |world| {
        let mut all = vec![world.start(), world.start()];
        world.seconds(15).await;
        world.forget_gaps();
        all.push(world.start());
        world.seconds(3).await;
        assert!(world.runs(all[2]) <= 3, "seed {}: at most one in a second", world.seed);
        world.seconds(12).await;
        world.assert_spread(&all);
        let gap = world.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_500), "seed {}: {gap:?}", world.seed);
        assert_eq!(world.longest_overlap(), Millis::ZERO, "seed {}", world.seed);
    });
}

#[test]
fn a_frozen_process_loses_its_pairs_and_writes_nothing_when_it_thaws() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        let before = world.node_of(all[0]);
        world.forget_gaps();
        world.freeze(all[0], true);
        world.seconds(12 + world.chance(10)).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
        // The world panics when anything of an old epoch is let through.
        world.freeze(all[0], false);
        world.seconds(20).await;
        world.assert_spread(&all);
        assert_ne!(world.node_of(all[0]), before, "seed {}: it was buried", world.seed);
    });
}

#[test]
fn a_short_freeze_moves_nothing() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start()];
        world.seconds(15).await;
        let before = all.map(|index| world.node_of(index));
        world.forget_gaps();
        world.freeze(all[0], true);
        world.seconds(3).await;
        world.freeze(all[0], false);
        world.seconds(5).await;
        assert_eq!(all.map(|index| world.node_of(index)), before, "seed {}", world.seed);
        assert!(world.longest_gap(|_| true) <= Millis::from_ms(3_100), "seed {}", world.seed);
        world.assert_spread(&all);
    });
}

#[test]
fn a_shard_database_that_is_away_holds_up_no_other() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        let before = all.map(|index| world.node_of(index));
        world.forget_gaps();
        for index in all {
            world.cut(index, "ds1", true);
        }
        world.seconds(20).await;
        let others = world.longest_gap(|shard| shard.get() % 2 == 0);
        assert!(others <= Millis::from_ms(50), "seed {}: {others:?}", world.seed);
        world.heal();
        world.forget_gaps();
        world.seconds(12).await;
        world.assert_spread(&all);
        assert_eq!(all.map(|index| world.node_of(index)), before, "seed {}: nobody was lost", world.seed);
        world.forget_gaps();
        world.seconds(1).await;
        assert!(world.longest_gap(|_| true) <= Millis::from_ms(50), "seed {}: all run again", world.seed);
    });
}

/// Also while the database's clock says that leases are over, or are not.
#[test]
fn who_cannot_reach_a_database_stops_before_others_take_over() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        world.forget_gaps();
        world.cut(all[0], "ds1", true);
        world.step_clock("ds1", Millis::from_ms(4_000));
        world.seconds(25).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
        let overlap = world.longest_overlap();
        // A fetcher takes up to 200 ms to end its turn; what it writes then is refused.
        assert!(overlap <= Millis::from_ms(200), "seed {}: {overlap:?}", world.seed);
        world.heal();
        world.seconds(75).await;
        world.assert_spread(&all);
    });
}

/// Its renewals arrive, and it does not know.
#[test]
fn who_hears_no_answer_gives_up_what_it_cannot_keep() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        world.forget_gaps();
        world.deafen(all[0], "ds1");
        world.seconds(25).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
        assert_eq!(world.longest_overlap(), Millis::ZERO, "seed {}", world.seed);
        world.heal();
        world.seconds(75).await;
        world.assert_spread(&all);
    });
}

#[test]
fn a_step_of_a_shard_databases_clock_moves_nothing() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        let loads = all.map(|index| world.runs(index));
        world.forget_gaps();
        world.step_clock(DATABASES[1], Millis::from_secs(60));
        world.seconds(10).await;
        let gap = world.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_200), "seed {}: until the next renewal: {gap:?}", world.seed);
        assert_eq!(all.map(|index| world.runs(index)), loads, "seed {}", world.seed);
        assert_eq!(world.longest_overlap(), Millis::ZERO, "seed {}", world.seed);
    });
}

#[test]
fn a_step_of_the_meta_databases_clock_makes_all_start_anew() {
    for_seeds(SEEDS, async |world| {
        let all = [world.start(), world.start(), world.start()];
        world.seconds(15).await;
        let before = all.map(|index| world.node_of(index));
        world.forget_gaps();
        world.step_clock(DATABASES[0], Millis::from_secs(-60));
        world.seconds(20).await;
        for (index, node) in all.into_iter().zip(before) {
            assert_ne!(world.node_of(index), node, "seed {}", world.seed);
        }
        world.assert_spread(&all);
        let gap = world.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", world.seed);
    });
}
