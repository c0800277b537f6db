//! Leases of nodes, shard groups and id slots.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use sqlx::Row as _;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tsp_core::config::ConfigSpec;
use tsp_core::{Millis, NodeId};
use tsp_store::catalog::{Catalog as _, ConfigBarrier as _};
use tsp_store::cluster::{Heartbeat, LeaseStore as _, NewNode, NodeRow, Renewal};
use tsp_store::fetching::{ClaimRequest, FetcherStore as _};
use tsp_store::id_source::IdSlots as _;

use crate::MySqlFetcherStore;
use crate::tests::fixture::{HOUR, NOW, Process, name, spec};
use crate::tests::site::{connect, sql};

/// A lease that has expired as soon as it is taken.
const OVER: Millis = Millis::from_ms(-1);

fn new_node() -> NewNode {
    NewNode {
        name: "machine — 7".to_owned(),
        roles: vec!["web".to_owned(), "fetcher".to_owned()],
        version: "0.1.0".to_owned(),
        address: Some("127.0.0.1:8080".to_owned()),
    }
}

impl Process {
    async fn node_row(&self, id: NodeId) -> Option<NodeRow> {
        self.store.nodes().await.expect("nodes").into_iter().find(|row| row.id == id)
    }
}

#[tokio::test]
async fn every_shard_of_a_group_is_there_and_free_at_first() {
    let one = Process::first().await;
    let groups = [name("default"), name("batch")];
    let shard_groups = one.store.shard_groups(&groups).await.unwrap();
    assert!(shard_groups.away.is_empty());
    let brief: Vec<_> = shard_groups
        .rows
        .iter()
        .map(|row| (row.shard_group.group.as_str(), row.shard_group.shard.get(), &*row.source))
        .collect();
    assert_eq!(
        brief,
        [
            ("batch", 0, "one"),
            ("batch", 1, "one"),
            ("batch", 2, "two"),
            ("batch", 3, "two"),
            ("default", 0, "one"),
            ("default", 1, "one"),
            ("default", 2, "two"),
            ("default", 3, "two"),
        ]
    );
    assert!(shard_groups.rows.iter().all(|row| row.owner.is_none() && row.expired));
    assert_eq!(one.store.shard_groups(&groups).await.unwrap(), shard_groups);
}

#[tokio::test]
async fn of_two_that_race_for_a_shard_group_one_wins() {
    let one = Process::first().await;
    let two = one.another().await;
    let mut last = 0;
    for round in 0..20 {
        let seen = one.seen("default", 2).await;
        let (a, b) =
            tokio::join!(one.store.take(&seen, one.node, OVER), two.store.take(&seen, two.node, OVER));
        let won: Vec<_> = [a.unwrap(), b.unwrap()].into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert!(won[0].epoch > last);
        last = won[0].epoch;
        let now = one.seen("default", 2).await;
        assert_eq!((now.owner, now.epoch), (Some(won[0].node), won[0].epoch));
    }
}

#[tokio::test]
async fn a_lease_that_is_not_over_is_not_taken_and_no_epoch_is_lost() {
    let one = Process::first().await;
    let two = one.another().await;
    let owner = one.store.take(&one.seen("default", 0).await, one.node, HOUR).await.unwrap().unwrap();
    let seen = two.seen("default", 0).await;
    assert!(!seen.expired);
    assert_eq!(two.store.take(&seen, two.node, HOUR).await.unwrap(), None);
    one.store.give_up(&seen.shard_group, owner).await.unwrap();
    assert_eq!(
        two.store.take(&seen, two.node, HOUR).await.unwrap(),
        None,
        "it is not what was seen any more"
    );
    let seen = two.seen("default", 0).await;
    assert_eq!(seen.owner, None);
    let next = two.store.take(&seen, two.node, HOUR).await.unwrap().unwrap();
    assert_eq!(next.epoch, owner.epoch + 1, "refused takes were rolled back");
}

#[tokio::test]
async fn a_late_renewal_is_good_until_somebody_has_taken_the_shard_group() {
    let one = Process::first().await;
    let two = one.another().await;
    let owner = one.store.take(&one.seen("default", 1).await, one.node, OVER).await.unwrap().unwrap();
    let seen = two.seen("default", 1).await;
    assert!(seen.expired && seen.owner == Some(one.node));
    let renewed = one.store.renew_leases(one.node, OVER).await.unwrap();
    assert_eq!(renewed.held, [(seen.shard_group.clone(), owner)]);
    assert!(renewed.failed.is_empty());
    let taken = two.store.take(&seen, two.node, HOUR).await.unwrap().unwrap();
    assert!(taken.epoch > owner.epoch);
    assert!(one.store.renew_leases(one.node, HOUR).await.unwrap().held.is_empty());
    one.store.give_up(&seen.shard_group, owner).await.unwrap();
    let now = one.seen("default", 1).await;
    assert_eq!((now.owner, now.epoch, now.expired), (Some(two.node), taken.epoch, false));
    assert_eq!(two.store.renew_leases(two.node, HOUR).await.unwrap().held, [(now.shard_group, taken)]);
}

/// So that a row says by its epoch alone whether its claim is older.
#[tokio::test]
async fn epochs_of_a_shard_rise_across_groups() {
    let one = Process::first().await;
    let mut last = 0;
    for group in ["a", "b", "a", "c", "b"] {
        let seen = one.seen(group, 3).await;
        let owner = one.store.take(&seen, one.node, OVER).await.unwrap().unwrap();
        assert!(owner.epoch > last, "{group}: {} after {last}", owner.epoch);
        last = owner.epoch;
    }
}

#[tokio::test]
async fn a_node_says_who_it_is_and_how_it_does() {
    let one = Process::first().await;
    let node = one.store.join(new_node(), HOUR).await.unwrap();
    let before = one.node_row(node).await.unwrap();
    assert_eq!((before.node, before.renewals, before.expired, before.dead_at), (new_node(), 0, false, None));
    let heartbeat =
        Heartbeat { config_seq: 7, clock_offset: Millis::from_ms(-3), running: 5, shard_groups: 2 };
    let renewal = one.store.renew(node, HOUR, heartbeat.clone()).await.unwrap();
    let seq = one.store.config_cache().seq();
    assert!(matches!(renewal, Renewal::Alive { config_seq, .. } if config_seq == seq), "{renewal:?}");
    let after = one.node_row(node).await.unwrap();
    assert_eq!((after.heartbeat, after.renewals), (heartbeat, 1));
    one.store.leave(node).await.unwrap();
    assert!(one.node_row(node).await.unwrap().dead_at.is_some(), "it is shown for a while");
    assert_eq!(one.store.renew(node, HOUR, Heartbeat::default()).await.unwrap(), Renewal::Dead);
}

#[tokio::test]
async fn only_who_stands_still_and_is_over_is_marked_dead() {
    let one = Process::first().await;
    let alive = one.store.join(new_node(), HOUR).await.unwrap();
    assert!(!one.store.mark_dead(alive, 0).await.unwrap(), "its lease holds");
    let late = one.store.join(new_node(), OVER).await.unwrap();
    one.store.renew(late, OVER, Heartbeat::default()).await.unwrap();
    assert!(!one.store.mark_dead(late, 0).await.unwrap(), "it was renewed since");
    assert!(one.store.mark_dead(late, 1).await.unwrap());
    assert!(one.store.mark_dead(late, 0).await.unwrap(), "it is dead, whatever was seen");
    assert_eq!(one.store.renew(late, HOUR, Heartbeat::default()).await.unwrap(), Renewal::Dead);
    assert!(one.store.mark_dead(NodeId::new(1 << 40), 0).await.unwrap(), "without a record it is dead");
    let next = one.store.join(new_node(), HOUR).await.unwrap();
    assert!(next > late, "an id is never used again");
}

#[tokio::test]
async fn id_slots_are_never_shared() {
    let one = Process::first().await;
    let nodes = join_all((0..64).map(|_| one.store.join(new_node(), HOUR))).await;
    let nodes: Vec<NodeId> = nodes.into_iter().map(Result::unwrap).collect();
    let taken = join_all(nodes.iter().map(|node| one.store.take_id_slot(*node))).await;
    let slots: BTreeSet<u8> = taken.iter().map(|slot| slot.clone().unwrap().unwrap()).collect();
    assert_eq!(slots.len(), 64, "each its own: {slots:?}");
    assert_eq!(one.store.take_id_slot(one.node).await.unwrap(), None, "all are taken");
    let again = one.store.take_id_slot(nodes[5]).await.unwrap();
    assert_eq!(again, taken[5].clone().unwrap(), "a node keeps its slot");
    one.store.leave(nodes[5]).await.unwrap();
    assert!(one.store.take_id_slot(nodes[5]).await.is_err(), "a dead node gets none");
    assert_eq!(one.store.take_id_slot(one.node).await.unwrap(), again);
}

/// A process that was declared dead makes no more ids than it had been granted.
#[tokio::test]
async fn a_slot_is_renewed_by_its_holder_alone() {
    let one = Process::first().await;
    let two = one.another().await;
    let slot = one.store.take_id_slot(one.node).await.unwrap().unwrap();
    let until = NOW;
    one.store.renew_id_slot(slot, until).await.unwrap();
    let refused = two.store.renew_id_slot(slot, until).await.unwrap_err();
    assert!(refused.to_string().contains("is node"), "{refused}");
    one.store.leave(one.node).await.unwrap();
    assert_eq!(two.store.take_id_slot(two.node).await.unwrap(), Some(slot));
    assert_eq!(two.store.renew_id_slot(slot, until).await.unwrap(), until);
    assert!(one.store.renew_id_slot(slot, until.plus(HOUR)).await.is_err());
}

#[tokio::test]
async fn a_change_is_applied_by_all_when_the_last_living_node_says_so() {
    let one = Process::first().await;
    let two = one.another().await;
    one.app().await;
    let seq = one.store.config_cache().seq();
    assert!(!one.store.applied_by_all(seq).await.unwrap());
    let applied = |config_seq| Heartbeat { config_seq, ..Heartbeat::default() };
    one.store.renew(one.node, HOUR, applied(seq)).await.unwrap();
    assert!(!one.store.applied_by_all(seq).await.unwrap(), "the other has not");
    assert_eq!(two.store.follow().await.unwrap(), seq);
    two.store.renew(two.node, HOUR, applied(seq)).await.unwrap();
    assert!(one.store.applied_by_all(seq).await.unwrap());
    two.store.renew(two.node, HOUR, applied(0)).await.unwrap();
    two.store.leave(two.node).await.unwrap();
    assert!(one.store.applied_by_all(seq).await.unwrap(), "the dead do not count");
}

/// Eight groups share a shard, and each of them claims slowly: a row that it asks for is held by somebody.
#[tokio::test]
async fn a_renewal_does_not_wait_for_slow_claims() {
    let one = Process::first().await;
    let app = one.app().await;
    let groups: Vec<_> = (0..8).map(|n| format!("group-{n}")).collect();
    let mut requests = Vec::new();
    for (group, number) in groups.iter().zip(1..) {
        let spec = ConfigSpec { group: name(group), ..spec(group) };
        let config = one.config(app, spec).await;
        one.submit(&config, 0, number).await;
        let request = ClaimRequest { config: config.id, due_by: NOW, limit: 10 };
        requests.push((one.fetcher_store(group, 0), one.take(group, 0, HOUR).await, request));
    }
    let owners: BTreeSet<i64> = requests.iter().map(|(_, owner, _)| owner.epoch).collect();
    let mut holder = connect(one.databases.source_of(0)).await;
    sql(&mut holder, "BEGIN").await;
    sql(&mut holder, "SELECT id FROM task_000 FOR UPDATE").await;
    let claim = |(of, owner, request): (MySqlFetcherStore, _, _)| async move {
        of.claim(owner, vec![request], NOW).await
    };
    let claims: JoinSet<_> = requests.into_iter().map(claim).collect();
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND INFO LIKE '-- claim_select%'",
        one.databases.source_of(0)
    );
    let mut looker = connect(one.databases.meta()).await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while sql(&mut looker, &waiting).await[0].get::<i64, _>(0) < 8 {
        assert!(Instant::now() < end, "eight claims must stand open");
        look.tick().await;
    }
    let began = Instant::now();
    let renewed = one.store.renew_leases(one.node, HOUR).await.unwrap();
    println!("renewing beside eight open claims took {:?}", began.elapsed());
    assert_eq!(renewed.failed, []);
    let held: BTreeSet<i64> = renewed.held.iter().map(|(_, owner)| owner.epoch).collect();
    assert_eq!(held, owners);
    sql(&mut holder, "COMMIT").await;
    for claimed in claims.join_all().await {
        assert_eq!(claimed.unwrap().bare.len(), 1, "each was the owner all the time");
    }
}
