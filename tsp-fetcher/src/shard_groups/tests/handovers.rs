//! Shard groups that are given to others, on the state alone.

use tsp_core::{Millis, MonotonicInstant, Name, NodeId, ShardId};
use tsp_store::cluster::{RenewedLeases, ShardGroup};
use tsp_store::fetching::Owner;

use super::super::state::State;

const LEASE: Millis = Millis::from_secs(5);
const ME: Owner = Owner { node: NodeId::new(1), epoch: 7 };

fn at(ms: i64) -> MonotonicInstant {
    MonotonicInstant::from_ms(ms)
}

fn shard_group(shard: u16) -> ShardGroup {
    ShardGroup { group: Name::default_name(), shard: ShardId::new(shard).expect("it is one") }
}

fn renewed(state: &mut State, sent: MonotonicInstant, now: MonotonicInstant) -> usize {
    let answer = RenewedLeases { held: vec![(shard_group(0), ME)], failed: Vec::new() };
    state.renewed(answer, sent, LEASE, now).start.len()
}

/// A state that owned shard groups 0 and 1 and has given shard group 0 up, which the database knows since 1,020.
fn gave_one() -> State {
    let mut state = State::new(LEASE);
    for shard in [0, 1] {
        assert!(state.own(&shard_group(shard), ME, at(5_000), at(0)));
    }
    assert!(state.hand_over(&shard_group(0), at(1_000)));
    let job = state.next_job().expect("to end its work and give it up");
    state.done(&job, true, at(1_020));
    assert!(!state.knows(&shard_group(0)));
    state
}

#[test]
fn a_renewal_from_before_it_was_given_up_does_not_bring_it_back() {
    let mut state = gave_one();
    assert_eq!(renewed(&mut state, at(1_010), at(1_030)), 0, "somebody else may own it by now");
    assert!(!state.knows(&shard_group(0)));
    assert_eq!(renewed(&mut state, at(2_010), at(2_020)), 1, "it is this node's still, whatever was said");
}

#[test]
fn who_takes_a_shard_group_back_that_nobody_wanted_gives_nothing_for_a_minute() {
    let mut state = gave_one();
    state.taken(&shard_group(0), false, at(6_000));
    assert!(!state.may_hand_over(at(65_000)));
    assert!(state.may_hand_over(at(66_000)));
}

#[test]
fn who_takes_a_shard_group_back_after_another_had_it_gives_as_ever() {
    let mut state = gave_one();
    state.taken(&shard_group(0), true, at(6_000));
    assert!(state.may_hand_over(at(6_001)));
}
