//! What is promised of takeovers, each with one kind of fault.

use tsp_core::Millis;

use super::harness::{DATABASES, all_shard_groups, for_seeds};

const TAKEOVER: Millis = Millis::from_secs(10);
const SEEDS: u64 = 8;

#[test]
fn processes_that_start_together_share_evenly_and_rest() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(12).await;
        harness.assert_spread(&all);
        harness.forget_gaps();
        harness.seconds(30).await;
        harness.assert_spread(&all);
        assert!(harness.longest_gap(|_| true).ms() <= 50, "seed {}: something moved", harness.seed);
    });
}

#[test]
fn what_a_killed_process_had_runs_elsewhere_within_ten_seconds() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15 + harness.rng(3)).await;
        harness.forget_gaps();
        harness.kill(all[0]);
        harness.seconds(20).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
        harness.assert_spread(&all[1..]);
    });
}

#[test]
fn all_but_one_may_be_killed_at_once() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        harness.forget_gaps();
        harness.kill(all[0]);
        harness.kill(all[2]);
        harness.seconds(20).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
        assert_eq!(harness.runs(all[1]), all_shard_groups());
    });
}

#[test]
fn a_process_that_stops_hands_over_at_once() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        harness.forget_gaps();
        harness.stop(all[1]);
        harness.seconds(10).await;
        assert!(harness.has_ended(all[1]), "seed {}", harness.seed);
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_500), "seed {}: {gap:?}", harness.seed);
        harness.assert_spread(&[all[0], all[2]]);
        assert_eq!(harness.longest_overlap(), Millis::ZERO, "seed {}", harness.seed);
    });
}

#[test]
fn an_observation_that_hangs_delays_neither_renewals_nor_the_end() {
    for_seeds(SEEDS, async |harness| {
        let only = harness.start();
        harness.seconds(5).await;
        harness.forget_gaps();
        harness.let_observations_hang();
        // Each is given up after two seconds: the last has just begun.
        harness.seconds(13).await;
        assert!(harness.longest_gap(|_| true).ms() <= 50, "seed {}: a lease ended", harness.seed);
        assert_eq!(harness.runs(only), all_shard_groups());
        harness.stop(only);
        harness.seconds(1).await;
        assert_eq!(harness.runs(only), 0, "seed {}: it waits for the answer", harness.seed);
        harness.seconds(9).await;
        assert!(harness.has_ended(only), "seed {}", harness.seed);
    });
}

#[test]
fn a_process_that_comes_gets_its_share_one_shard_group_at_a_time() {
    for_seeds(SEEDS, async |harness| {
        let mut all = vec![harness.start(), harness.start()];
        harness.seconds(15).await;
        harness.forget_gaps();
        all.push(harness.start());
        harness.seconds(3).await;
        assert!(harness.runs(all[2]) <= 3, "seed {}: at most one in a second", harness.seed);
        harness.seconds(12).await;
        harness.assert_spread(&all);
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_500), "seed {}: {gap:?}", harness.seed);
        assert_eq!(harness.longest_overlap(), Millis::ZERO, "seed {}", harness.seed);
    });
}

#[test]
fn a_frozen_process_loses_its_shard_groups_and_writes_nothing_when_it_thaws() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        let before = harness.node_of(all[0]);
        harness.forget_gaps();
        harness.freeze(all[0], true);
        harness.seconds(12 + harness.rng(10)).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
        // The harness panics when anything of an old epoch is let through.
        harness.freeze(all[0], false);
        harness.seconds(20).await;
        harness.assert_spread(&all);
        assert_ne!(harness.node_of(all[0]), before, "seed {}: it was marked dead", harness.seed);
    });
}

#[test]
fn a_short_freeze_moves_nothing() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start()];
        harness.seconds(15).await;
        let before = all.map(|index| harness.node_of(index));
        harness.forget_gaps();
        harness.freeze(all[0], true);
        harness.seconds(3).await;
        harness.freeze(all[0], false);
        harness.seconds(5).await;
        assert_eq!(all.map(|index| harness.node_of(index)), before, "seed {}", harness.seed);
        assert!(harness.longest_gap(|_| true) <= Millis::from_ms(3_100), "seed {}", harness.seed);
        harness.assert_spread(&all);
    });
}

#[test]
fn a_shard_database_that_is_away_holds_up_no_other() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        let before = all.map(|index| harness.node_of(index));
        harness.forget_gaps();
        for index in all {
            harness.cut(index, "ds1", true);
        }
        harness.seconds(20).await;
        let others = harness.longest_gap(|shard| shard.get() % 2 == 0);
        assert!(others <= Millis::from_ms(50), "seed {}: {others:?}", harness.seed);
        harness.heal();
        harness.forget_gaps();
        harness.seconds(12).await;
        harness.assert_spread(&all);
        assert_eq!(all.map(|index| harness.node_of(index)), before, "seed {}: nobody was lost", harness.seed);
        harness.forget_gaps();
        harness.seconds(1).await;
        assert!(harness.longest_gap(|_| true) <= Millis::from_ms(50), "seed {}: all run again", harness.seed);
    });
}

/// Also while the database's clock says that leases have expired, or have not.
#[test]
fn who_cannot_reach_a_database_stops_before_others_take_over() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        harness.forget_gaps();
        harness.cut(all[0], "ds1", true);
        harness.step_clock("ds1", Millis::from_ms(4_000));
        harness.seconds(25).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
        let overlap = harness.longest_overlap();
        // A fetcher takes up to 200 ms to end its turn; what it writes then is refused.
        assert!(overlap <= Millis::from_ms(200), "seed {}: {overlap:?}", harness.seed);
        harness.heal();
        harness.seconds(75).await;
        harness.assert_spread(&all);
    });
}

/// Its renewals arrive, and it does not know.
#[test]
fn who_hears_no_answer_gives_up_what_it_cannot_keep() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        harness.forget_gaps();
        harness.deafen(all[0], "ds1");
        harness.seconds(25).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
        assert_eq!(harness.longest_overlap(), Millis::ZERO, "seed {}", harness.seed);
        harness.heal();
        harness.seconds(75).await;
        harness.assert_spread(&all);
    });
}

#[test]
fn a_step_of_a_shard_databases_clock_moves_nothing() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        let loads = all.map(|index| harness.runs(index));
        harness.forget_gaps();
        harness.step_clock(DATABASES[1], Millis::from_secs(60));
        harness.seconds(10).await;
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= Millis::from_ms(1_200), "seed {}: until the next renewal: {gap:?}", harness.seed);
        assert_eq!(all.map(|index| harness.runs(index)), loads, "seed {}", harness.seed);
        assert_eq!(harness.longest_overlap(), Millis::ZERO, "seed {}", harness.seed);
    });
}

#[test]
fn a_step_of_the_meta_databases_clock_makes_all_start_again() {
    for_seeds(SEEDS, async |harness| {
        let all = [harness.start(), harness.start(), harness.start()];
        harness.seconds(15).await;
        let before = all.map(|index| harness.node_of(index));
        harness.forget_gaps();
        harness.step_clock(DATABASES[0], Millis::from_secs(-60));
        harness.seconds(20).await;
        for (index, node) in all.into_iter().zip(before) {
            assert_ne!(harness.node_of(index), node, "seed {}", harness.seed);
        }
        harness.assert_spread(&all);
        let gap = harness.longest_gap(|_| true);
        assert!(gap <= TAKEOVER, "seed {}: {gap:?}", harness.seed);
    });
}
