//! Whole processes in virtual time: members and lease managers with their own loops, on databases with clocks
//! of their own. Processes can be killed and frozen, links cut, clocks set.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tsp_core::{ClusterClock, Millis, MonotonicClock, MonotonicInstant, Name, NodeId, ShardId, Timestamp};
use tsp_store::cluster::{Heartbeat, Member, MemberOptions, NewNode, ShardGroup};
use tsp_store::fetching::Owner;
use tsp_store_testing::memory::{Fault, META, MemoryLeases};

use super::link::Link;
use crate::shard_groups::{LeaseManager, LeaseManagerDependencies, ServingScope, ShardGroupHost};

pub(super) const LEASE: Millis = Millis::from_secs(5);
const SHARDS: u16 = 6;
const SOURCES: u16 = 2;
const TICK: Duration = Duration::from_millis(50);
pub(super) const DATABASES: [&str; 3] = [META, "ds0", "ds1"];

#[derive(Debug)]
pub(super) struct RuntimeTime(Instant);

impl MonotonicClock for RuntimeTime {
    fn instant(&self) -> MonotonicInstant {
        MonotonicInstant::from_ms(Millis::from(self.0.elapsed()).ms())
    }
}

pub(super) struct Harness {
    pub(super) seed: u64,
    pub(super) leases: Arc<MemoryLeases>,
    time: Arc<RuntimeTime>,
    random: AtomicU64,
    clock_steps: Arc<Mutex<BTreeMap<String, i64>>>,
    /// Links that are down, by node and database.
    cuts: Arc<Mutex<BTreeSet<(usize, String)>>>,
    /// Links whose questions arrive and whose answers do not.
    deaf: Arc<Mutex<BTreeSet<(usize, String)>>>,
    caller: Arc<Mutex<usize>>,
    /// No observation of the shard groups is answered, and none fails.
    observations_hang: AtomicBool,
    /// One in so many answers is lost; 0: none.
    lost_answers: Arc<AtomicU64>,
    processes: Mutex<Vec<Process>>,
    tasks: Mutex<JoinSet<()>>,
    ledger: Mutex<BTreeMap<ShardGroup, LeaseWrite>>,
    /// For how long a shard group has run, and at most ran, in two processes that were not frozen.
    overlap: Mutex<(Millis, Millis)>,
}

struct Process {
    host: Arc<Threads>,
    frozen: Arc<Freezer>,
    stop: CancellationToken,
    task: AbortHandle,
}

/// The last write to a shard group that the database let through.
#[derive(Debug, Clone, Copy)]
struct LeaseWrite {
    owner: Owner,
    at: MonotonicInstant,
    longest_gap: Millis,
}

/// The fetchers of a process: they write as long as they run, and take a while to stop.
struct Threads {
    harness: Arc<Harness>,
    running: Mutex<BTreeMap<ShardGroup, Owner>>,
}

#[async_trait]
impl ShardGroupHost for Threads {
    fn start(&self, shard_group: &ShardGroup, owner: Owner) {
        let before = self.running.lock().insert(shard_group.clone(), owner);
        assert_eq!(before, None, "seed {}: started twice: {shard_group:?}", self.harness.seed);
    }

    async fn stop(&self, shard_group: &ShardGroup) {
        pass(Duration::from_millis(self.harness.rng(200))).await;
        self.running.lock().remove(shard_group);
    }
}

#[derive(Default)]
struct Freezer {
    frozen: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Freezer {
    fn set(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
        if !frozen && let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}

/// A process that a SIGSTOP may hold anywhere.
struct Freezable<F> {
    freezer: Arc<Freezer>,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Freezable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.freezer.is_frozen() {
            *self.freezer.waker.lock() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}

/// Runs a story once for each seed, each in a harness of its own.
pub(super) fn for_seeds<F: Future<Output = ()>>(seeds: u64, story: impl Fn(Arc<Harness>) -> F) {
    for seed in 0..seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { story(Harness::new(seed)).await });
    }
}

impl Harness {
    fn new(seed: u64) -> Arc<Self> {
        let time = Arc::new(RuntimeTime(Instant::now()));
        let clock_steps: Arc<Mutex<BTreeMap<String, i64>>> = Arc::default();
        let (read, steps) = (time.clone(), clock_steps.clone());
        let clock = move |database: &str| {
            let step = steps.lock().get(database).copied().unwrap_or(0);
            Timestamp::from_ms(1_800_000_000_000 + read.instant().ms() + step)
        };
        let harness = Self {
            seed,
            leases: Arc::new(MemoryLeases::new(SHARDS, SOURCES, Box::new(clock))),
            time,
            random: AtomicU64::new(seed),
            clock_steps,
            cuts: Arc::default(),
            deaf: Arc::default(),
            caller: Arc::default(),
            observations_hang: AtomicBool::new(false),
            lost_answers: Arc::default(),
            processes: Mutex::default(),
            tasks: Mutex::default(),
            ledger: Mutex::default(),
            overlap: Mutex::default(),
        };
        let harness = Arc::new(harness);
        let faulty = Arc::downgrade(&harness);
        harness.leases.set_faults(Box::new(move |_, database| {
            faulty.upgrade().map_or(Fault::None, |harness| harness.fault(database))
        }));
        harness
    }

    fn fault(&self, database: &str) -> Fault {
        let one_in = self.lost_answers.load(Ordering::SeqCst);
        let link = (*self.caller.lock(), database.to_owned());
        if self.cuts.lock().contains(&link) {
            Fault::Before
        } else if self.deaf.lock().contains(&link) || one_in > 0 && self.rng(one_in) == 0 {
            Fault::After
        } else {
            Fault::None
        }
    }

    /// A number below `limit` (splitmix64).
    pub(super) fn rng(&self, limit: u64) -> u64 {
        let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    pub(super) fn set_caller(&self, index: usize) {
        *self.caller.lock() = index;
    }

    pub(super) fn is_cut_somewhere(&self, index: usize) -> bool {
        self.cuts.lock().iter().any(|(node, _)| *node == index)
    }

    pub(super) fn cut(&self, index: usize, database: &str, cut: bool) {
        let link = (index, database.to_owned());
        if cut {
            self.cuts.lock().insert(link)
        } else {
            self.cuts.lock().remove(&link)
        };
    }

    pub(super) fn let_observations_hang(&self) {
        self.observations_hang.store(true, Ordering::SeqCst);
    }

    /// Returns, unless observations hang.
    pub(super) async fn observed(&self) {
        if self.observations_hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn deafen(&self, index: usize, database: &str) {
        self.deaf.lock().insert((index, database.to_owned()));
    }

    pub(super) fn heal(&self) {
        self.cuts.lock().clear();
        self.deaf.lock().clear();
        self.lost_answers.store(0, Ordering::SeqCst);
        for process in self.processes.lock().iter() {
            process.frozen.set(false);
        }
    }

    pub(super) fn lose_answers(&self, one_in: u64) {
        self.lost_answers.store(one_in, Ordering::SeqCst);
    }

    pub(super) fn step_clock(&self, database: &str, by: Millis) {
        *self.clock_steps.lock().entry(database.to_owned()).or_default() += by.ms();
    }

    /// Starts a process; its number.
    pub(super) fn start(self: &Arc<Self>) -> usize {
        let index = self.processes.lock().len();
        let host = Arc::new(Threads { harness: self.clone(), running: Mutex::default() });
        let (frozen, stop) = (Arc::<Freezer>::default(), CancellationToken::new());
        let inner = Box::pin(live(self.clone(), index, host.clone(), stop.clone()));
        let task = self.tasks.lock().spawn(Freezable { freezer: frozen.clone(), inner });
        self.processes.lock().push(Process { host, frozen, stop, task });
        index
    }

    /// kill -9.
    pub(super) fn kill(&self, index: usize) {
        let processes = self.processes.lock();
        processes[index].task.abort();
        processes[index].host.running.lock().clear();
    }

    /// SIGTERM.
    pub(super) fn stop(&self, index: usize) {
        self.processes.lock()[index].stop.cancel();
    }

    /// SIGSTOP and SIGCONT.
    pub(super) fn freeze(&self, index: usize, frozen: bool) {
        self.processes.lock()[index].frozen.set(frozen);
    }

    pub(super) fn has_ended(&self, index: usize) -> bool {
        self.processes.lock()[index].task.is_finished()
    }

    pub(super) fn runs(&self, index: usize) -> usize {
        self.processes.lock()[index].host.running.lock().len()
    }

    /// The node id under which a process runs its shard groups.
    pub(super) fn node_of(&self, index: usize) -> Option<NodeId> {
        self.processes.lock()[index].host.running.lock().values().next().map(|owner| owner.node)
    }

    pub(super) async fn seconds(&self, seconds: u64) {
        for _ in 0..seconds * 20 {
            pass(TICK).await;
            self.write();
            self.note_overlap();
            while let Some(ended) = self.tasks.lock().try_join_next() {
                assert!(
                    !ended.is_err_and(|error| error.is_panic()),
                    "seed {}: a process panicked",
                    self.seed
                );
            }
        }
    }

    /// Every fetcher that is not frozen writes, and whatever the database lets through is checked: one owner
    /// at a time, and never one of an epoch before the last.
    fn write(&self) {
        let now = self.time.instant();
        let mut passing: BTreeMap<ShardGroup, Owner> = BTreeMap::new();
        for process in self.processes.lock().iter() {
            for (shard_group, owner) in process.host.running.lock().iter() {
                if !self.leases.lease_check(shard_group, *owner) {
                    continue;
                }
                let other = passing.insert(shard_group.clone(), *owner);
                assert_eq!(other, None, "seed {}: two owners of {shard_group:?}", self.seed);
                if !process.frozen.is_frozen() {
                    self.note_write(shard_group, *owner, now);
                }
            }
        }
    }

    fn note_write(&self, shard_group: &ShardGroup, owner: Owner, now: MonotonicInstant) {
        let mut ledger = self.ledger.lock();
        let fresh = LeaseWrite { owner, at: now, longest_gap: Millis::ZERO };
        let last = ledger.entry(shard_group.clone()).or_insert(fresh);
        let seed = self.seed;
        assert!(
            owner.epoch >= last.owner.epoch,
            "seed {seed}: {shard_group:?}: {owner:?} after {:?}",
            last.owner
        );
        assert!(owner.epoch > last.owner.epoch || owner == last.owner, "seed {seed}: one epoch, two owners");
        let longest_gap = last.longest_gap.max(now.since(last.at));
        *last = LeaseWrite { owner, at: now, longest_gap };
    }

    fn note_overlap(&self) {
        let processes = self.processes.lock();
        let awake = processes.iter().filter(|process| !process.frozen.is_frozen());
        let mut seen = BTreeSet::new();
        let twice = awake
            .flat_map(|process| process.host.running.lock().keys().cloned().collect::<Vec<_>>())
            .any(|shard_group| !seen.insert(shard_group));
        let (lasting, longest) = &mut *self.overlap.lock();
        *lasting = if twice { lasting.saturating_add(Millis::from(TICK)) } else { Millis::ZERO };
        *longest = (*lasting).max(*longest);
    }

    pub(super) fn longest_overlap(&self) -> Millis {
        self.overlap.lock().1
    }

    /// Gaps are counted from now on.
    pub(super) fn forget_gaps(&self) {
        for written in self.ledger.lock().values_mut() {
            written.longest_gap = Millis::ZERO;
        }
    }

    /// The longest time in which nobody wrote to a shard group of these shards, up to now.
    pub(super) fn longest_gap(&self, of: impl Fn(ShardId) -> bool) -> Millis {
        let now = self.time.instant();
        let ledger = self.ledger.lock();
        assert_eq!(
            ledger.len(),
            all_shard_groups(),
            "seed {}: a shard group was never written to",
            self.seed
        );
        let shard_groups = ledger.iter().filter(|(shard_group, _)| of(shard_group.shard));
        shard_groups
            .map(|(_, written)| written.longest_gap.max(now.since(written.at)))
            .max()
            .unwrap_or_default()
    }

    pub(super) fn assert_spread(&self, alive: &[usize]) {
        let loads: Vec<_> = alive.iter().map(|index| self.runs(*index)).collect();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 1, "seed {}: {loads:?}", self.seed);
        assert_eq!(loads.iter().sum::<usize>(), all_shard_groups(), "seed {}: {loads:?}", self.seed);
    }
}

fn groups() -> Vec<Name> {
    ["public", "trade"].map(|group| Name::group(group).unwrap()).to_vec()
}

pub(super) fn all_shard_groups() -> usize {
    usize::from(SHARDS) * groups().len()
}

/// A process: it joins, keeps its share, and starts again when it is lost.
async fn live(harness: Arc<Harness>, index: usize, host: Arc<Threads>, stop: CancellationToken) {
    let clock = Arc::new(ClusterClock::new(harness.time.clone()));
    while !stop.is_cancelled() {
        if let Some(member) = join(&harness, index, &clock).await {
            be_member(&harness, index, &host, &stop, member).await;
        } else {
            pass(Duration::from_millis(500)).await;
        }
    }
}

async fn join(harness: &Arc<Harness>, index: usize, clock: &Arc<ClusterClock>) -> Option<Member> {
    let new = NewNode {
        name: format!("n{index}"),
        roles: ServingScope::All.to_roles(),
        version: String::new(),
        address: None,
    };
    let options =
        MemberOptions { lease: LEASE, max_skew: Millis::from_ms(500), id_slot: false, watches: true };
    let link = Arc::new(Link { harness: harness.clone(), index });
    Member::join(link, clock.clone(), new, Arc::new(Heartbeat::default), options).await.ok()
}

async fn be_member(
    harness: &Arc<Harness>,
    index: usize,
    host: &Arc<Threads>,
    stop: &CancellationToken,
    mut member: Member,
) {
    let lease_manager = LeaseManager::new(LeaseManagerDependencies {
        store: Arc::new(Link { harness: harness.clone(), index }),
        host: host.clone(),
        time: harness.time.clone(),
        peers: member.peers().unwrap(),
        node: member.node(),
        serves: ServingScope::All,
        groups: Arc::new(groups),
        lease: LEASE,
    });
    let (keeping, kept) = (stop.child_token(), CancellationToken::new());
    futures::join!(
        async {
            lease_manager.run(&keeping).await;
            kept.cancel();
        },
        async {
            let tell = |report: tsp_store::cluster::MemberReport| {
                if !report.died.is_empty() {
                    lease_manager.look_again();
                }
            };
            member.run(kept.cancelled(), tell).await;
            keeping.cancel();
        }
    );
    // What does not reach the database, it finds out by itself.
    let _ = member.leave().await;
}

/// In a story time is paused: it goes on when all wait, so nothing really waits.
pub(super) async fn pass(length: Duration) {
    tokio::time::sleep_until(tokio::time::Instant::now() + length).await;
}
