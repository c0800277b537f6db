//! Claims: order, limits, and the owner's epoch.

use std::collections::BTreeSet;

use tsp_core::task::{EndResult, Status};
use tsp_core::{Millis, TaskId};

use super::bed::{Bed, T0, at};
use crate::schedule::{Claimed, Head, Want};

/// By due time, then id, whatever the order of submits.
pub(super) async fn rows_come_by_due_time_and_id(bed: &Bed) {
    let config = bed.config("close-order").await;
    let mut made = Vec::new();
    for seconds in [30, 10, 20, 10, 0, 20] {
        made.push(bed.create(bed.new_task(&config, None, at(seconds))).await);
    }
    made.sort_by_key(|task| (task.due_at, task.id));
    let want = Want { config: config.id, due_by: at(30), limit: 100 };
    let claimed = bed.store.claim(bed.owner, vec![want], at(30)).await.expect("claim");
    let ids: Vec<TaskId> = claimed.tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, made.iter().map(|task| task.id).collect::<Vec<_>>());
    for task in &claimed.tasks {
        assert_eq!((task.status, task.epoch, task.version), (Status::Queued, bed.owner.epoch, 2));
        bed.check_stored(task).await;
    }
    assert_eq!(claimed.heads, [(config.id, None)]);
}

/// Not one more than wanted, nothing that is due later, and the head says what is left.
pub(super) async fn a_want_bounds_number_and_time(bed: &Bed) {
    let config = bed.config("close-order").await;
    for seconds in [1, 2, 3, 4] {
        bed.create(bed.new_task(&config, None, at(seconds))).await;
    }
    let claim =
        |due_by, limit| bed.store.claim(bed.owner, vec![Want { config: config.id, due_by, limit }], at(3));
    let first = claim(at(3), 2).await.expect("claim");
    assert_eq!(first.tasks.iter().map(|task| task.due_at).collect::<Vec<_>>(), [at(1), at(2)]);
    assert_eq!(first.heads, [(config.id, Some(at(3)))]);
    let second = claim(at(3), 100).await.expect("claim");
    assert_eq!(second.tasks.iter().map(|task| task.due_at).collect::<Vec<_>>(), [at(3)]);
    assert_eq!(second.heads, [(config.id, Some(at(4)))]);
    let third = claim(at(3), 100).await.expect("claim");
    assert!(third.tasks.is_empty(), "what is due later stays: {third:?}");
    let none = claim(at(9), 0).await.expect("claim");
    assert!(none.tasks.is_empty(), "nothing was wanted: {none:?}");
}

/// Ahead of its time, if wanted: the owner waits for it, not the store.
pub(super) async fn a_claim_may_look_ahead(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.create(bed.new_task(&config, None, at(1))).await;
    let want = Want { config: config.id, due_by: at(1), limit: 1 };
    let claimed = bed.store.claim(bed.owner, vec![want], T0).await.expect("claim");
    assert_eq!(claimed.tasks.first().map(|claimed| claimed.id), Some(task.id));
}

/// No row is claimed twice, whoever asks and however often.
pub(super) async fn claims_are_disjoint(bed: &Bed) {
    let config = bed.config("close-order").await;
    for _ in 0..30 {
        bed.scheduled(&config).await;
    }
    let want = Want { config: config.id, due_by: T0, limit: 7 };
    let calls = (0..6).map(|_| bed.store.claim(bed.owner, vec![want, want], T0));
    let mut seen = BTreeSet::new();
    for claimed in futures::future::join_all(calls).await {
        for task in claimed.expect("claim").tasks {
            assert!(seen.insert(task.id), "task {} was claimed twice", task.id);
        }
    }
    assert_eq!(seen.len(), 30, "and every row was claimed once");
}

/// In the order of the wants, with a head for each config.
pub(super) async fn wants_of_several_configs_are_served_in_order(bed: &Bed) {
    let one = bed.config("one").await;
    let two = bed.config("two").await;
    let empty = bed.config("empty").await;
    let first = bed.create(bed.new_task(&one, None, T0)).await;
    bed.create(bed.new_task(&one, None, at(9))).await;
    let second = bed.create(bed.new_task(&two, None, at(-5))).await;
    let wants = [&one, &empty, &two].map(|config| Want { config: config.id, due_by: at(1), limit: 5 });
    let claimed = bed.store.claim(bed.owner, Vec::from(wants), at(1)).await.expect("claim");
    assert_eq!(claimed.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [first.id, second.id]);
    let heads: BTreeSet<_> = claimed.heads.into_iter().collect();
    assert_eq!(heads, BTreeSet::from([(one.id, Some(at(9))), (empty.id, None), (two.id, None)]));
}

/// An owner of an earlier epoch gets nothing and changes nothing.
pub(super) async fn a_deposed_owner_claims_nothing(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.scheduled(&config).await;
    let node = bed.store.register_node("next", T0).await.expect("register_node");
    let next = bed.store.take_shards(node, T0).await.expect("take_shards");
    assert!(next.epoch > bed.owner.epoch, "epochs rise: {next:?} after {:?}", bed.owner);
    let want = Want { config: config.id, due_by: T0, limit: 5 };
    let claimed = bed.store.claim(bed.owner, vec![want], T0).await.expect("claim");
    assert!(claimed.deposed, "the epoch is over");
    assert_eq!(Claimed { deposed: false, heads: Vec::new(), ..claimed }, Claimed::default());
    bed.check_stored(&task).await;
    let claimed = bed.store.claim(next, vec![want], T0).await.expect("claim");
    assert_eq!((claimed.deposed, claimed.tasks.len()), (false, 1));
    let again = bed.store.take_shards(node, T0).await.expect("take_shards");
    assert!(again.epoch > next.epoch, "also for the same node");
    let claimed = bed.store.claim(next, vec![want], T0).await.expect("claim");
    assert!(claimed.deposed, "its own later taking deposes the earlier one");
}

/// It ends instead of being claimed, and the caller is told.
pub(super) async fn what_has_expired_ends_at_its_claim(bed: &Bed) {
    let config = bed.config("close-order").await;
    let mut new = bed.new_task(&config, None, T0);
    new.expire_after = Some(Millis::from_secs(30));
    let expiring = bed.create(new).await;
    let lasting = bed.scheduled(&config).await;
    let want = Want { config: config.id, due_by: at(30), limit: 5 };
    let claimed = bed.store.claim(bed.owner, vec![want], at(30)).await.expect("claim");
    assert_eq!(claimed.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [lasting.id]);
    assert_eq!(claimed.expired.iter().map(|task| task.id).collect::<Vec<_>>(), [expiring.id]);
    let stored = bed.stored(expiring.id).await;
    assert_eq!((stored.status, stored.result), (Status::Ended, Some(EndResult::Expired)));
    assert_eq!(stored.ended_at, Some(at(30)));
}

/// The earliest due time at 0 of each config that has one.
pub(super) async fn heads_follow_the_rows(bed: &Bed) {
    let one = bed.config("one").await;
    let two = bed.config("two").await;
    bed.create(bed.new_task(&one, None, at(20))).await;
    let first = bed.create(bed.new_task(&one, None, at(10))).await;
    bed.create(bed.new_task(&two, None, at(5))).await;
    bed.config("three").await;
    let heads = async || {
        let mut heads = bed.store.heads().await.expect("heads");
        heads.sort_by_key(|head| head.config);
        heads
    };
    let head = |config, seconds| Head { config, due_at: at(seconds) };
    assert_eq!(heads().await, [head(one.id, 10), head(two.id, 5)]);
    let claimed = bed.claim(&first, at(10)).await;
    assert_eq!(heads().await, [head(one.id, 20), head(two.id, 5)]);
    bed.store.release(vec![(claimed.id, claimed.version)], at(10)).await.expect("release");
    assert_eq!(heads().await, [head(one.id, 10), head(two.id, 5)]);
}
