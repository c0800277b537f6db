//! Nodes and id slots: what is never used twice.

use std::collections::BTreeSet;

use tsp_core::{Millis, ShardId, Timestamp};
use tsp_store::id_source::{IdSource, RENEW_AHEAD};

use super::fixture::{Fixture, T0, at};

/// Each start is a new node, also under the same name.
pub(super) async fn a_node_id_is_never_used_again(fixture: &Fixture) {
    let mut seen = BTreeSet::from([fixture.node]);
    for round in 0..20 {
        let name = if round % 2 == 0 { "fixture" } else { "other" };
        let node = fixture.store.register_node(name, at(-round)).await.expect("register_node");
        assert!(seen.insert(node), "node {node} was given twice");
    }
}

/// Epochs only rise, whatever the clock and the node.
pub(super) async fn epochs_only_rise(fixture: &Fixture) {
    let mut last = fixture.owner.epoch;
    for now in [at(9), T0, at(-9)] {
        let owner = fixture.store.take_shards(fixture.node, now).await.expect("take_shards");
        assert_eq!(owner.node, fixture.node);
        assert!(owner.epoch > last, "epoch {} after {last}", owner.epoch);
        last = owner.epoch;
    }
}

/// A slot says where its last holder left it; it is never lowered, and slots are apart.
pub(super) async fn an_id_slot_only_rises(fixture: &Fixture) {
    let renew = async |slot, until| fixture.store.renew_id_slot(slot, until).await.expect("renew_id_slot");
    let first = renew(1, at(60)).await;
    assert!(first <= at(60), "nobody has used it: {first}");
    assert_eq!(renew(1, at(120)).await, at(60));
    assert_eq!(renew(1, at(10)).await, at(120), "a clock that stepped back lowers nothing");
    assert_eq!(renew(1, at(10)).await, at(120));
    assert!(renew(63, at(10)).await <= at(10), "another slot is another matter");
}

/// Holder after holder on one slot, with a clock that steps back: no id repeats.
pub(super) async fn holders_of_a_slot_never_share_an_id(fixture: &Fixture) {
    let mut seen = BTreeSet::new();
    for now in [T0, T0, at(-60), at(30)] {
        let ids = IdSource::lease(&*fixture.store, 9, now).await.expect("lease");
        for _ in 0..500 {
            let id = ids.next(ShardId::default(), now).expect("the slot was just renewed");
            assert!(seen.insert(id), "id {id} was made twice");
        }
        ids.renew(&*fixture.store, now).await.expect("renew");
    }
}

/// Leased at the edge of what its last holder had, it has room to go on.
pub(super) async fn a_slot_left_far_ahead_can_still_be_used(fixture: &Fixture) {
    let ahead = T0.plus(RENEW_AHEAD).plus(Millis::from_hours(1));
    fixture.store.renew_id_slot(9, ahead).await.expect("renew_id_slot");
    let ids = IdSource::lease(&*fixture.store, 9, T0).await.expect("lease");
    let id = ids.next(ShardId::default(), T0).expect("there is room above the last holder's end");
    assert!(id.made_at() >= ahead, "above whatever the last holder may have used");
    assert!(id.made_at() < Timestamp::MAX);
    // Renewals do not lower what stands there, and what stands there is still the holder's own.
    for renewal in 1..=4 {
        ids.renew(&*fixture.store, at(20 * renewal)).await.expect("renew");
    }
}
