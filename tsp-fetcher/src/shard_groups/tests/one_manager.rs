//! One lease manager, stepped by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tsp_core::clock::ManualMonotonicClock;
use tsp_core::{Millis, MonotonicClock, Name, NodeId, ShardId, Timestamp};
use tsp_store::cluster::{LeaseStore, NewNode, Peers, ShardGroup, ShardGroupLease};
use tsp_store::fetching::Owner;
use tsp_store_testing::memory::{Fault, MemoryLeases};

use crate::shard_groups::{
    LeaseManager, LeaseManagerDependencies, LeaseManagerReport, ServingScope, ShardGroupHost,
};

const LEASE: Millis = Millis::from_secs(5);
const SHARDS: u16 = 4;

#[derive(Default)]
struct Host {
    running: Mutex<BTreeMap<ShardGroup, Owner>>,
}

#[async_trait]
impl ShardGroupHost for Host {
    fn start(&self, shard_group: &ShardGroup, owner: Owner) {
        assert_eq!(self.running.lock().insert(shard_group.clone(), owner), None, "started twice");
    }

    async fn stop(&self, shard_group: &ShardGroup) {
        self.running.lock().remove(shard_group);
    }
}

struct Fixture {
    time: Arc<ManualMonotonicClock>,
    leases: Arc<MemoryLeases>,
    groups: Arc<Mutex<Vec<Name>>>,
}

struct Node {
    lease_manager: LeaseManager,
    host: Arc<Host>,
    id: NodeId,
    peers: Peers,
}

fn group() -> Name {
    Name::group("g").unwrap()
}

fn shard_group(shard: u16) -> ShardGroup {
    ShardGroup { group: group(), shard: ShardId::new(shard).unwrap() }
}

impl Fixture {
    /// Four shards on two databases.
    fn new() -> Self {
        let time = Arc::new(ManualMonotonicClock::new());
        let read = time.clone();
        let clock = move |_: &str| Timestamp::from_ms(1_800_000_000_000 + read.instant().ms());
        let leases = Arc::new(MemoryLeases::new(SHARDS, 2, Box::new(clock)));
        Self { time, leases, groups: Arc::new(Mutex::new(vec![group()])) }
    }

    async fn node(&self) -> Node {
        let new = NewNode {
            name: String::new(),
            roles: ServingScope::All.to_roles(),
            version: String::new(),
            address: None,
        };
        let id = self.leases.join(new, LEASE).await.unwrap();
        let (host, peers, groups) = (Arc::new(Host::default()), Peers::default(), self.groups.clone());
        let lease_manager = LeaseManager::new(LeaseManagerDependencies {
            store: self.leases.clone(),
            host: host.clone(),
            time: self.time.clone(),
            peers: peers.clone(),
            node: id,
            serves: ServingScope::All,
            groups: Arc::new(move || groups.lock().clone()),
            lease: LEASE,
        });
        Node { lease_manager, host, id, peers }
    }

    /// A second passes; its member renews, and it steps.
    async fn step(&self, node: &Node) -> LeaseManagerReport {
        self.time.advance(Millis::from_secs(1));
        node.step(self).await
    }

    fn faults(&self, hook: impl Fn(&str, &str) -> Fault + Send + 'static) {
        self.leases.set_faults(Box::new(move |call, source| hook(call, source)));
    }

    async fn rows(&self) -> Vec<ShardGroupLease> {
        let groups = self.groups.lock().clone();
        self.leases.shard_groups(&groups).await.unwrap().rows
    }
}

impl Node {
    async fn step(&self, fixture: &Fixture) -> LeaseManagerReport {
        let _ = fixture.leases.renew(self.id, LEASE, tsp_store::cluster::Heartbeat::default()).await;
        if let Ok(rows) = fixture.leases.nodes().await {
            self.peers.set(rows);
        }
        self.lease_manager.step(fixture.time.instant()).await
    }

    fn runs(&self) -> Vec<u16> {
        self.host.running.lock().keys().map(|shard_group| shard_group.shard.get()).collect()
    }

    fn owner(&self, shard: u16) -> Owner {
        self.host.running.lock()[&shard_group(shard)]
    }
}

#[tokio::test]
async fn takes_what_is_free_and_keeps_it() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    assert_eq!(
        node.lease_manager.step(fixture.time.instant()).await,
        LeaseManagerReport::default(),
        "has seen no node yet"
    );
    assert_eq!(fixture.step(&node).await.taken.len(), 4);
    for _ in 0..10 {
        assert_eq!(fixture.step(&node).await, LeaseManagerReport::default());
    }
    assert_eq!((node.runs(), node.lease_manager.running()), (vec![0, 1, 2, 3], 4));
    for shard in 0..SHARDS {
        assert!(fixture.leases.lease_check(&shard_group(shard), node.owner(shard)));
    }
}

#[tokio::test]
async fn stops_by_its_own_clock_and_goes_on_when_nobody_has_taken_it() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    fixture.step(&node).await;
    let before = node.owner(0);
    fixture.faults(|_, source| if source == "ds0" { Fault::Before } else { Fault::None });
    for _ in 0..4 {
        let report = fixture.step(&node).await;
        assert_eq!(report.away, [ShardId::new(0).unwrap(), ShardId::new(2).unwrap()]);
        assert_eq!(node.runs(), [0, 1, 2, 3], "the lease still runs");
    }
    assert_eq!(fixture.step(&node).await.lost, [shard_group(0), shard_group(2)]);
    assert_eq!(node.runs(), [1, 3], "the other database holds nothing up");
    fixture.leases.clear_faults();
    fixture.step(&node).await;
    assert_eq!(node.runs(), [0, 1, 2, 3]);
    assert_eq!(node.owner(0), before, "a late renewal is good");
}

#[tokio::test]
async fn a_take_without_an_answer_is_found_by_the_renewal() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    fixture.faults(|call, _| if call == "take" { Fault::After } else { Fault::None });
    assert_eq!(fixture.step(&node).await.taken, []);
    fixture.leases.clear_faults();
    fixture.step(&node).await;
    assert_eq!(node.runs(), [0, 1, 2, 3]);
    for shard in 0..SHARDS {
        assert!(fixture.leases.lease_check(&shard_group(shard), node.owner(shard)));
    }
}

#[tokio::test]
async fn what_is_given_up_without_an_answer_is_given_up_again() {
    let fixture = Fixture::new();
    let first = fixture.node().await;
    fixture.step(&first).await;
    let second = fixture.node().await;
    fixture.faults(|call, _| if call == "give_up" { Fault::Before } else { Fault::None });
    second.step(&fixture).await;
    let handed_over = fixture.step(&first).await.handed_over.expect("one shard group too many");
    assert!(!first.runs().contains(&handed_over.shard.get()), "it is not started again");
    fixture.step(&first).await;
    fixture.leases.clear_faults();
    fixture.step(&first).await;
    let row = fixture.rows().await.into_iter().find(|row| row.shard_group == handed_over).unwrap();
    assert_eq!(row.owner, None);
    assert_eq!(second.step(&fixture).await.taken, [handed_over]);
}

#[tokio::test]
async fn spreads_evenly_one_in_a_second_and_rests() {
    let fixture = Fixture::new();
    let first = fixture.node().await;
    fixture.step(&first).await;
    let second = fixture.node().await;
    let mut handed_over = 0;
    for _ in 0..10 {
        second.step(&fixture).await;
        handed_over += usize::from(fixture.step(&first).await.handed_over.is_some());
        assert!(first.step(&fixture).await.handed_over.is_none(), "once in a second");
    }
    assert_eq!((handed_over, first.runs().len(), second.runs().len()), (2, 2, 2));
}

#[tokio::test]
async fn nobody_is_given_shard_groups_again_that_it_could_not_take() {
    let fixture = Fixture::new();
    let first = fixture.node().await;
    fixture.step(&first).await;
    let second = fixture.node().await;
    let mut handed_over = Vec::new();
    for second_number in 0..50 {
        // It lives, and never takes anything.
        fixture.leases.renew(second.id, LEASE, tsp_store::cluster::Heartbeat::default()).await.unwrap();
        handed_over.extend(fixture.step(&first).await.handed_over.map(|_| second_number));
    }
    assert_eq!(handed_over.len(), 1, "{handed_over:?}");
    assert_eq!(first.runs().len(), 4, "it took it back");
}

#[tokio::test]
async fn a_deposed_shard_group_is_dropped_and_taken_again_under_a_new_epoch() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    fixture.step(&node).await;
    let owner = node.owner(1);
    fixture.leases.give_up(&shard_group(1), owner).await.unwrap();
    // What follows is this node's own doing: no database answers.
    fixture.faults(|_, _| Fault::Before);
    node.lease_manager.ended(&shard_group(1), Owner { epoch: owner.epoch - 1, ..owner });
    node.lease_manager.step(fixture.time.instant()).await;
    assert!(node.runs().contains(&1), "an older incarnation's end means nothing");
    node.lease_manager.ended(&shard_group(1), owner);
    node.lease_manager.step(fixture.time.instant()).await;
    assert!(!node.runs().contains(&1));
    fixture.leases.clear_faults();
    fixture.step(&node).await;
    assert!(node.owner(1).epoch > owner.epoch);
}

#[tokio::test]
async fn a_shard_group_that_others_took_is_stopped() {
    let fixture = Fixture::new();
    let (node, thief) = (fixture.node().await, fixture.node().await);
    node.step(&fixture).await;
    let mine: BTreeSet<_> = node.runs().into_iter().collect();
    let shard = *mine.iter().next().unwrap();
    fixture.leases.give_up(&shard_group(shard), node.owner(shard)).await.unwrap();
    let row = fixture.rows().await.into_iter().find(|row| row.shard_group == shard_group(shard)).unwrap();
    assert!(fixture.leases.take(&row, thief.id, LEASE).await.unwrap().is_some());
    assert_eq!(fixture.step(&node).await.lost, [shard_group(shard)]);
    assert!(!node.runs().contains(&shard));
}

#[tokio::test]
async fn a_group_that_is_gone_is_given_up() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    fixture.step(&node).await;
    let before = fixture.rows().await;
    *fixture.groups.lock() = vec![Name::group("other").unwrap()];
    fixture.step(&node).await;
    assert_eq!(node.host.running.lock().keys().filter(|shard_group| shard_group.group == group()).count(), 0);
    *fixture.groups.lock() = vec![group()];
    assert!(before.iter().all(|row| row.owner == Some(node.id)));
    assert!(fixture.rows().await.iter().all(|row| row.owner.is_none()));
}

#[tokio::test]
async fn leaving_hands_everything_over_at_once() {
    let fixture = Fixture::new();
    let node = fixture.node().await;
    fixture.step(&node).await;
    let stop = CancellationToken::new();
    stop.cancel();
    node.lease_manager.run(&stop).await;
    assert_eq!(node.runs(), [0_u16; 0]);
    let second = fixture.node().await;
    fixture.leases.leave(node.id).await.unwrap();
    assert_eq!(second.step(&fixture).await.taken.len(), 4, "without waiting");
    assert_eq!(fixture.step(&node).await.taken, [], "it takes nothing any more");
}
