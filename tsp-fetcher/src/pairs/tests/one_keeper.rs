//! One keeper, stepped by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::clock::ManualTime;
use tsp_core::{Millis, Monotonic, Name, NodeId, ShardId, Timestamp};
use tsp_store::cluster::{LeaseStore, NewNode, Pair, PairRow, Peers};
use tsp_store::memory::{Fault, MemoryLeases};
use tsp_store::schedule::Owner;

use crate::pairs::{KeeperParts, KeeperReport, PairHost, PairKeeper, Serves};

const LEASE: Millis = Millis::from_secs(5);
const SHARDS: u16 = 4;

#[derive(Default)]
struct Host {
    running: Mutex<BTreeMap<Pair, Owner>>,
}

#[async_trait]
impl PairHost for Host {
    fn start(&self, pair: &Pair, owner: Owner) {
        assert_eq!(self.running.lock().insert(pair.clone(), owner), None, "started twice");
    }

    async fn stop(&self, pair: &Pair) {
        self.running.lock().remove(pair);
    }
}

struct Bed {
    time: Arc<ManualTime>,
    leases: Arc<MemoryLeases>,
    groups: Arc<Mutex<Vec<Name>>>,
}

struct Node {
    keeper: PairKeeper,
    host: Arc<Host>,
    id: NodeId,
    peers: Peers,
}

fn group() -> Name {
    Name::group("g").unwrap()
}

fn pair(shard: u16) -> Pair {
    Pair { group: group(), shard: ShardId::new(shard).unwrap() }
}

impl Bed {
    /// Four shards on two databases.
    fn new() -> Self {
        let time = Arc::new(ManualTime::new());
        let read = time.clone();
        let clock = move |_: &str| Timestamp::from_ms(1_800_000_000_000 + read.moment().ms());
        let leases = Arc::new(MemoryLeases::new(SHARDS, 2, Box::new(clock)));
        Self { time, leases, groups: Arc::new(Mutex::new(vec![group()])) }
    }

    async fn node(&self) -> Node {
        let new = NewNode {
            name: String::new(),
            roles: Serves::All.to_roles(),
            version: String::new(),
            address: None,
        };
        let id = self.leases.join(new, LEASE).await.unwrap();
        let (host, peers, groups) = (Arc::new(Host::default()), Peers::default(), self.groups.clone());
        let keeper = PairKeeper::new(KeeperParts {
            store: self.leases.clone(),
            host: host.clone(),
            time: self.time.clone(),
            peers: peers.clone(),
            node: id,
            serves: Serves::All,
            groups: Arc::new(move || groups.lock().clone()),
            lease: LEASE,
        });
        Node { keeper, host, id, peers }
    }

    /// A second passes; its member renews, and it steps.
    async fn step(&self, node: &Node) -> KeeperReport {
        self.time.advance(Millis::from_secs(1));
        node.step(self).await
    }

    fn faults(&self, hook: impl Fn(&str, &str) -> Fault + Send + 'static) {
        self.leases.set_faults(Box::new(move |call, source| hook(call, source)));
    }

    async fn rows(&self) -> Vec<PairRow> {
        let groups = self.groups.lock().clone();
        self.leases.pairs(&groups).await.unwrap().rows
    }
}

impl Node {
    async fn step(&self, bed: &Bed) -> KeeperReport {
        let _ = bed.leases.renew(self.id, LEASE, tsp_store::cluster::Beat::default()).await;
        if let Ok(rows) = bed.leases.nodes().await {
            self.peers.set(rows);
        }
        self.keeper.step(bed.time.moment()).await
    }

    fn runs(&self) -> Vec<u16> {
        self.host.running.lock().keys().map(|pair| pair.shard.get()).collect()
    }

    fn owner(&self, shard: u16) -> Owner {
        self.host.running.lock()[&pair(shard)]
    }
}

#[tokio::test]
async fn takes_what_is_free_and_keeps_it() {
    let bed = Bed::new();
    let node = bed.node().await;
    assert_eq!(node.keeper.step(bed.time.moment()).await, KeeperReport::default(), "has seen no node yet");
    assert_eq!(bed.step(&node).await.taken.len(), 4);
    for _ in 0..10 {
        assert_eq!(bed.step(&node).await, KeeperReport::default());
    }
    assert_eq!((node.runs(), node.keeper.running()), (vec![0, 1, 2, 3], 4));
    for shard in 0..SHARDS {
        assert!(bed.leases.lease_check(&pair(shard), node.owner(shard)));
    }
}

#[tokio::test]
async fn stops_by_its_own_clock_and_goes_on_when_nobody_has_taken_it() {
    let bed = Bed::new();
    let node = bed.node().await;
    bed.step(&node).await;
    let before = node.owner(0);
    bed.faults(|_, source| if source == "ds0" { Fault::Before } else { Fault::None });
    for _ in 0..4 {
        let report = bed.step(&node).await;
        assert_eq!(report.away, [ShardId::new(0).unwrap(), ShardId::new(2).unwrap()]);
        assert_eq!(node.runs(), [0, 1, 2, 3], "the lease still runs");
    }
    assert_eq!(bed.step(&node).await.lost, [pair(0), pair(2)]);
    assert_eq!(node.runs(), [1, 3], "the other database holds nothing up");
    bed.leases.clear_faults();
    bed.step(&node).await;
    assert_eq!(node.runs(), [0, 1, 2, 3]);
    assert_eq!(node.owner(0), before, "a late renewal is good");
}

#[tokio::test]
async fn a_take_without_an_answer_is_found_by_the_renewal() {
    let bed = Bed::new();
    let node = bed.node().await;
    bed.faults(|call, _| if call == "take" { Fault::After } else { Fault::None });
    assert_eq!(bed.step(&node).await.taken, []);
    bed.leases.clear_faults();
    bed.step(&node).await;
    assert_eq!(node.runs(), [0, 1, 2, 3]);
    for shard in 0..SHARDS {
        assert!(bed.leases.lease_check(&pair(shard), node.owner(shard)));
    }
}

#[tokio::test]
async fn what_is_given_up_without_an_answer_is_given_up_again() {
    let bed = Bed::new();
    let first = bed.node().await;
    bed.step(&first).await;
    let second = bed.node().await;
    bed.faults(|call, _| if call == "give_up" { Fault::Before } else { Fault::None });
    second.step(&bed).await;
    let given = bed.step(&first).await.given.expect("one pair too many");
    assert!(!first.runs().contains(&given.shard.get()), "it is not started again");
    bed.step(&first).await;
    bed.leases.clear_faults();
    bed.step(&first).await;
    let row = bed.rows().await.into_iter().find(|row| row.pair == given).unwrap();
    assert_eq!(row.owner, None);
    assert_eq!(second.step(&bed).await.taken, [given]);
}

#[tokio::test]
async fn spreads_evenly_one_in_a_second_and_rests() {
    let bed = Bed::new();
    let first = bed.node().await;
    bed.step(&first).await;
    let second = bed.node().await;
    let mut given = 0;
    for _ in 0..10 {
        second.step(&bed).await;
        given += usize::from(bed.step(&first).await.given.is_some());
        assert!(first.step(&bed).await.given.is_none(), "once in a second");
    }
    assert_eq!((given, first.runs().len(), second.runs().len()), (2, 2, 2));
}

#[tokio::test]
async fn nobody_is_given_pairs_again_that_it_could_not_take() {
    let bed = Bed::new();
    let first = bed.node().await;
    bed.step(&first).await;
    let second = bed.node().await;
    let mut given = Vec::new();
    for second_number in 0..50 {
        // It lives, and never takes anything.
        bed.leases.renew(second.id, LEASE, tsp_store::cluster::Beat::default()).await.unwrap();
        given.extend(bed.step(&first).await.given.map(|_| second_number));
    }
    assert_eq!(given.len(), 1, "{given:?}");
    assert_eq!(first.runs().len(), 4, "it took it back");
}

#[tokio::test]
async fn a_deposed_pair_is_dropped_and_taken_again_under_a_new_epoch() {
    let bed = Bed::new();
    let node = bed.node().await;
    bed.step(&node).await;
    let owner = node.owner(1);
    bed.leases.give_up(&pair(1), owner).await.unwrap();
    node.keeper.ended(&pair(1), Owner { epoch: owner.epoch - 1, ..owner });
    node.keeper.work_off().await;
    assert!(node.runs().contains(&1), "an older incarnation's end means nothing");
    node.keeper.ended(&pair(1), owner);
    node.keeper.work_off().await;
    assert!(!node.runs().contains(&1));
    bed.step(&node).await;
    assert!(node.owner(1).epoch > owner.epoch);
}

#[tokio::test]
async fn a_pair_that_others_took_is_stopped() {
    let bed = Bed::new();
    let (node, thief) = (bed.node().await, bed.node().await);
    node.step(&bed).await;
    let mine: BTreeSet<_> = node.runs().into_iter().collect();
    let shard = *mine.iter().next().unwrap();
    bed.leases.give_up(&pair(shard), node.owner(shard)).await.unwrap();
    let row = bed.rows().await.into_iter().find(|row| row.pair == pair(shard)).unwrap();
    assert!(bed.leases.take(&row, thief.id, LEASE).await.unwrap().is_some());
    assert_eq!(bed.step(&node).await.lost, [pair(shard)]);
    assert!(!node.runs().contains(&shard));
}

#[tokio::test]
async fn a_group_that_is_gone_is_given_up() {
    let bed = Bed::new();
    let node = bed.node().await;
    bed.step(&node).await;
    let before = bed.rows().await;
    *bed.groups.lock() = vec![Name::group("other").unwrap()];
    bed.step(&node).await;
    assert_eq!(node.host.running.lock().keys().filter(|pair| pair.group == group()).count(), 0);
    *bed.groups.lock() = vec![group()];
    assert!(before.iter().all(|row| row.owner == Some(node.id)));
    assert!(bed.rows().await.iter().all(|row| row.owner.is_none()));
}

#[tokio::test]
async fn leaving_hands_everything_over_at_once() {
    let bed = Bed::new();
    let node = bed.node().await;
    bed.step(&node).await;
    node.keeper.leave().await;
    assert_eq!(node.runs(), [0_u16; 0]);
    let second = bed.node().await;
    bed.leases.leave(node.id).await.unwrap();
    assert_eq!(second.step(&bed).await.taken.len(), 4, "without waiting");
    assert_eq!(bed.step(&node).await.taken, [], "it takes nothing any more");
}
