//! Claims: order, limits, and the owner's epoch.

use std::collections::BTreeSet;

use tsp_core::task::{EndResult, Status};
use tsp_core::{Millis, TaskId};
use tsp_store::fetching::{ClaimRequest, ClaimResult, EarliestDue};

use super::fixture::{Fixture, T0, at};

/// By due time, then id, whatever the order of submits.
pub(super) async fn rows_come_by_due_time_and_id(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut made = Vec::new();
    for seconds in [30, 10, 20, 10, 0, 20] {
        made.push(fixture.create(fixture.new_task(&config, None, at(seconds))).await);
    }
    made.sort_by_key(|task| (task.due_at, task.id));
    let request = ClaimRequest { config: config.id, due_by: at(30), limit: 100 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], at(30)).await.expect("claim");
    let ids: Vec<TaskId> = claimed.tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, made.iter().map(|task| task.id).collect::<Vec<_>>());
    for task in &claimed.tasks {
        assert_eq!((task.status, task.epoch, task.version), (Status::Queued, fixture.owner.epoch, 2));
        fixture.check_stored(task).await;
    }
    assert_eq!(claimed.earliest_due, [(config.id, None)]);
}

/// Not one more than wanted, nothing that is due later, and the earliest due time says what is left.
pub(super) async fn a_claim_request_bounds_number_and_time(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for seconds in [1, 2, 3, 4] {
        fixture.create(fixture.new_task(&config, None, at(seconds))).await;
    }
    let claim = |due_by, limit| {
        fixture.store.claim(fixture.owner, vec![ClaimRequest { config: config.id, due_by, limit }], at(3))
    };
    let first = claim(at(3), 2).await.expect("claim");
    assert_eq!(first.tasks.iter().map(|task| task.due_at).collect::<Vec<_>>(), [at(1), at(2)]);
    assert_eq!(first.earliest_due, [(config.id, Some(at(3)))]);
    let second = claim(at(3), 100).await.expect("claim");
    assert_eq!(second.tasks.iter().map(|task| task.due_at).collect::<Vec<_>>(), [at(3)]);
    assert_eq!(second.earliest_due, [(config.id, Some(at(4)))]);
    let third = claim(at(3), 100).await.expect("claim");
    assert!(third.tasks.is_empty(), "what is due later stays: {third:?}");
    let none = claim(at(9), 0).await.expect("claim");
    assert!(none.tasks.is_empty(), "nothing was wanted: {none:?}");
}

/// Ahead of its time, if wanted: the owner waits for it, not the store.
pub(super) async fn a_claim_may_look_ahead(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.create(fixture.new_task(&config, None, at(1))).await;
    let request = ClaimRequest { config: config.id, due_by: at(1), limit: 1 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], T0).await.expect("claim");
    assert_eq!(claimed.tasks.first().map(|claimed| claimed.id), Some(task.id));
}

/// No row is claimed twice, whoever asks and however often.
pub(super) async fn claims_are_disjoint(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for _ in 0..30 {
        fixture.scheduled(&config).await;
    }
    let request = ClaimRequest { config: config.id, due_by: T0, limit: 7 };
    let calls = (0..6).map(|_| fixture.store.claim(fixture.owner, vec![request, request], T0));
    let mut seen = BTreeSet::new();
    for claimed in futures::future::join_all(calls).await {
        for task in claimed.expect("claim").tasks {
            assert!(seen.insert(task.id), "task {} was claimed twice", task.id);
        }
    }
    assert_eq!(seen.len(), 30, "and every row was claimed once");
}

/// In the order of the requests, with an earliest due time for each config.
pub(super) async fn claim_requests_of_several_configs_are_served_in_order(fixture: &Fixture) {
    let one = fixture.config("one").await;
    let two = fixture.config("two").await;
    let empty = fixture.config("empty").await;
    let first = fixture.create(fixture.new_task(&one, None, T0)).await;
    fixture.create(fixture.new_task(&one, None, at(9))).await;
    let second = fixture.create(fixture.new_task(&two, None, at(-5))).await;
    let requests =
        [&one, &empty, &two].map(|config| ClaimRequest { config: config.id, due_by: at(1), limit: 5 });
    let claimed = fixture.store.claim(fixture.owner, Vec::from(requests), at(1)).await.expect("claim");
    assert_eq!(claimed.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [first.id, second.id]);
    let earliest_due: BTreeSet<_> = claimed.earliest_due.into_iter().collect();
    assert_eq!(earliest_due, BTreeSet::from([(one.id, Some(at(9))), (empty.id, None), (two.id, None)]));
}

/// An owner of an earlier epoch gets nothing and changes nothing.
pub(super) async fn a_deposed_owner_claims_nothing(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.scheduled(&config).await;
    let node = fixture.store.register_node("next", T0).await.expect("register_node");
    let next = fixture.store.take_shards(node, T0).await.expect("take_shards");
    assert!(next.epoch > fixture.owner.epoch, "epochs rise: {next:?} after {:?}", fixture.owner);
    let request = ClaimRequest { config: config.id, due_by: T0, limit: 5 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], T0).await.expect("claim");
    assert!(claimed.deposed, "the epoch is over");
    assert_eq!(ClaimResult { deposed: false, earliest_due: Vec::new(), ..claimed }, ClaimResult::default());
    fixture.check_stored(&task).await;
    let claimed = fixture.store.claim(next, vec![request], T0).await.expect("claim");
    assert_eq!((claimed.deposed, claimed.tasks.len()), (false, 1));
    let again = fixture.store.take_shards(node, T0).await.expect("take_shards");
    assert!(again.epoch > next.epoch, "also for the same node");
    let claimed = fixture.store.claim(next, vec![request], T0).await.expect("claim");
    assert!(claimed.deposed, "its own later taking deposes the earlier one");
}

/// It ends instead of being claimed, and the caller learns it.
pub(super) async fn what_has_expired_ends_at_its_claim(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut new = fixture.new_task(&config, None, T0);
    new.expire_after = Some(Millis::from_secs(30));
    let expiring = fixture.create(new).await;
    let lasting = fixture.scheduled(&config).await;
    let request = ClaimRequest { config: config.id, due_by: at(30), limit: 5 };
    let claimed = fixture.store.claim(fixture.owner, vec![request], at(30)).await.expect("claim");
    assert_eq!(claimed.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [lasting.id]);
    assert_eq!(claimed.expired.iter().map(|task| task.id).collect::<Vec<_>>(), [expiring.id]);
    let stored = fixture.stored(expiring.id).await;
    assert_eq!((stored.status, stored.result), (Status::Ended, Some(EndResult::Expired)));
    assert_eq!(stored.ended_at, Some(at(30)));
}

/// The earliest due time of each config that has scheduled rows.
pub(super) async fn earliest_due_times_follow_the_rows(fixture: &Fixture) {
    let one = fixture.config("one").await;
    let two = fixture.config("two").await;
    fixture.create(fixture.new_task(&one, None, at(20))).await;
    let first = fixture.create(fixture.new_task(&one, None, at(10))).await;
    fixture.create(fixture.new_task(&two, None, at(5))).await;
    fixture.config("three").await;
    let earliest_due = async || {
        let mut earliest_due = fixture.store.earliest_due().await.expect("earliest_due");
        earliest_due.sort_by_key(|earliest| earliest.config);
        earliest_due
    };
    let earliest = |config, seconds| EarliestDue { config, due_at: at(seconds) };
    assert_eq!(earliest_due().await, [earliest(one.id, 10), earliest(two.id, 5)]);
    let claimed = fixture.claim(&first, at(10)).await;
    assert_eq!(earliest_due().await, [earliest(one.id, 20), earliest(two.id, 5)]);
    fixture.store.release(vec![(claimed.id, claimed.version)], at(10)).await.expect("release");
    assert_eq!(earliest_due().await, [earliest(one.id, 10), earliest(two.id, 5)]);
}
