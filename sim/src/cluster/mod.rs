//! Several nodes on one store: the real member, lease manager, fetcher and worker loops, each node in a
//! runtime of its own with virtual time. A node that is dropped is killed wherever it waits; one that gets no
//! time is frozen, and wakes up as a ghost when others have taken over. The clock of the database steps both
//! ways, and each node follows it by a clock of its own.

mod link;
mod node;
mod operators;
mod plan;
mod receiver;
mod view;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tsp_core::clock::ManualMonotonicClock;
use tsp_core::config::TaskConfig;
use tsp_core::{Clock, ConfigId, Millis, Name, NodeId, ShardId, TaskId, Timestamp};
use tsp_fetcher::{Auditor, HoldsView};
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Feedback, FeedbackSink, Inbox, Subscriber};
use tsp_store::Catalog;
use tsp_store::cluster::{LeaseStore, ShardGroup};
use tsp_store::fetching::{FetchScope, Owner};
use tsp_store_testing::memory::{MemoryLeases, MemoryStore};

use crate::callers::{let_all_go, make_configs};
use crate::checker::Checker;
use crate::clock::SimClock;
use crate::coverage::Coverage;
use crate::harness::{START, Story};
use crate::rng::SeededRng;
use crate::seeds::said;
use crate::weather::{FaultRates, HoldLog, HoldReason, Waits, Weather, finish_off};

use plan::Forever;
pub(crate) use plan::{ClusterBug, ClusterPlan};

/// Of nodes and of shard groups.
const LEASE: Millis = Millis::from_secs(5);
/// The most that each node gets of time at once, in milliseconds: it stops anywhere. And so much when all is calm.
const SLICE_MOST_MS: i64 = 60;
const CALM_SLICE: Millis = Millis::from_ms(200);
/// As with one process.
const REST_WITHIN: Millis = Millis::from_secs(600);
const AUDIT_AGAIN: Millis = Millis::from_secs(15);

/// What the nodes share.
struct Environment {
    plan: ClusterPlan,
    store: Arc<MemoryStore>,
    leases: Arc<MemoryLeases>,
    shard_group: ShardGroup,
    /// The databases'.
    clock: Arc<SimClock>,
    rng: Arc<SeededRng>,
    queue: Arc<MemoryQueue>,
    checker: Mutex<Checker>,
    held: Arc<HoldLog>,
    inboxes: Mutex<Vec<Weak<Inbox>>>,
    known: Mutex<Vec<TaskId>>,
    delayed: Vec<ConfigId>,
    configs: Vec<ConfigId>,
    calm: AtomicBool,
    dead: Mutex<BTreeSet<NodeId>>,
    /// Of an owner that wrote.
    newest_epoch: Mutex<i64>,
    /// What was found inside of tasks.
    broken: Mutex<Option<String>>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Waits for virtual time, which costs none.
pub(crate) async fn pass(length: Millis) {
    tokio::time::sleep_until(Instant::now() + length.to_std()).await;
}

fn group() -> Name {
    Name::group("public").expect("a good name")
}

impl Environment {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn note(&self, now: Timestamp, what: impl AsRef<str>) {
        self.checker.lock().note(now, what);
    }

    fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.inboxes.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn add_inbox(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.inboxes.lock();
        inboxes.retain(|inbox| inbox.strong_count() > 0);
        inboxes.push(Arc::downgrade(inbox));
    }

    fn store_seq(&self) -> i64 {
        self.store.config_cache().seq()
    }

    fn truth(&self, config: ConfigId) -> Option<Arc<TaskConfig>> {
        self.store.config_cache().config(config)
    }

    /// Nodes that others have declared dead.
    fn note_deaths(&self) {
        let rows = finish_off(self.leases.nodes()).expect("no faults");
        let mut dead = self.dead.lock();
        for row in rows.iter().filter(|row| row.dead_at.is_some()) {
            if dead.insert(row.id) {
                let life = u32::try_from(row.id.get()).unwrap_or(0);
                self.checker.lock().died(life, self.clock.now());
            }
        }
    }

    /// An owner asks to write, and is let or not.
    fn write_of(&self, owner: Owner, is_let: bool) {
        let mut newest = self.newest_epoch.lock();
        if is_let && owner.epoch < *newest {
            let why = "broken promise: nothing is done under an epoch that is over";
            *self.broken.lock() = Some(format!("seed {}: {why}: {owner:?}", self.plan.seed));
        } else if is_let {
            *newest = owner.epoch;
        }
    }

    /// A check inside of a task, whose panic the runtime would keep to itself.
    fn watch(&self, check: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            *self.broken.lock() = Some(said(panic.as_ref()));
        }
    }
}

impl FeedbackSink for Environment {
    fn report(&self, batch: Vec<Feedback>) {
        self.inboxes().iter().for_each(|inbox| inbox.report(batch.clone()));
    }
}

/// A machine with a process on it.
struct Machine {
    runtime: Option<(Runtime, JoinHandle<()>)>,
    time: Arc<ManualMonotonicClock>,
    weather: Arc<Weather>,
    /// It gets no time before.
    idle_until: Timestamp,
    /// What it has missed.
    missed: Millis,
}

impl Machine {
    fn new(environment: &Environment) -> Self {
        let weather = Weather::new(environment.rng.clone(), Waits::ByTimer, environment.held.clone());
        weather.set(environment.plan.faults);
        Self {
            runtime: None,
            time: Arc::new(ManualMonotonicClock::new()),
            weather: Arc::new(weather),
            idle_until: Timestamp::ZERO,
            missed: Millis::ZERO,
        }
    }

    fn run(&mut self, environment: &Arc<Environment>, length: Millis, harness_now: Timestamp) {
        if harness_now < self.idle_until {
            self.missed = self.missed.saturating_add(length);
            return;
        }
        let (time, weather) = (self.time.clone(), self.weather.clone());
        let (runtime, process) = self.runtime.get_or_insert_with(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.expect("a runtime");
            let process = runtime.spawn(node::live(environment.clone(), weather, time.clone()));
            (runtime, process)
        });
        let missed = std::mem::replace(&mut self.missed, Millis::ZERO);
        self.time.advance(missed.saturating_add(length));
        runtime.block_on(async {
            if missed.is_positive() {
                tokio::time::advance(missed.to_std()).await;
            }
            pass(length).await;
        });
        assert!(!process.is_finished(), "seed {}: a process ended by itself", environment.plan.seed);
    }
}

pub(crate) struct Cluster {
    environment: Arc<Environment>,
    machines: Vec<Machine>,
    /// By no clock that steps.
    elapsed: Timestamp,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.environment.fmt(f)
    }
}

impl Cluster {
    pub(crate) fn new(plan: ClusterPlan) -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let clock = Arc::new(SimClock::at(START));
        let read = clock.clone();
        let (delayed, cron) = make_configs(&store, START);
        let leases = MemoryLeases::new(1, 1, Box::new(move |_| read.now()));
        leases.set_config_seq(store.config_cache().seq());
        let environment = Arc::new(Environment {
            store,
            leases: Arc::new(leases),
            shard_group: ShardGroup { group: group(), shard: ShardId::new(0).expect("the first") },
            clock,
            rng: Arc::new(SeededRng::new(plan.seed)),
            queue: Arc::new(MemoryQueue::new([Name::default_name()], 4_096)),
            checker: Mutex::new(Checker::new(plan.seed, true)),
            held: Arc::default(),
            inboxes: Mutex::default(),
            known: Mutex::default(),
            configs: delayed.iter().chain(&cron).copied().collect(),
            delayed,
            calm: AtomicBool::new(false),
            dead: Mutex::default(),
            newest_epoch: Mutex::default(),
            broken: Mutex::default(),
            plan,
        });
        let machines = (0..environment.plan.nodes).map(|_| Machine::new(&environment)).collect();
        Self { environment, machines, elapsed: Timestamp::ZERO }
    }

    /// Acts at random, then brings the cluster to rest and checks everything.
    pub(crate) fn run(mut self) -> Story {
        for _ in 0..self.environment.plan.slices {
            self.random_acts();
            self.slice(Millis::from_ms(self.environment.rng.ms(1, SLICE_MOST_MS)));
        }
        self.calm();
        let rested_after = self.come_to_rest();
        let environment = self.environment.clone();
        environment.checker.lock().at_rest(&environment.store.dump());
        self.nothing_is_unaccounted_for();
        // They end before their coverage is read.
        self.machines.iter_mut().for_each(|machine| machine.runtime = None);
        let mut coverage = Coverage::default();
        for machine in &self.machines {
            coverage.add(&machine.weather.coverage.lock());
        }
        let checker = std::mem::replace(&mut *environment.checker.lock(), Checker::new(0, true));
        Story { history: checker.into_history(), coverage, rested_after }
    }

    fn slice(&mut self, length: Millis) {
        self.environment.clock.step(length);
        self.elapsed = self.elapsed.plus(length);
        let first = self.environment.rng.index(self.machines.len());
        self.machines.rotate_left(first);
        for machine in &mut self.machines {
            machine.run(&self.environment, length, self.elapsed);
        }
        self.machines.rotate_right(first);
        self.environment.note_deaths();
        if let Some(broken) = self.environment.broken.lock().take() {
            panic!("{broken}");
        }
        if let Some(task) = self.environment.held.take_begun() {
            self.environment.checker.lock().require(false, "no begin after an answered pause", &task);
        }
        if self.environment.plan.forever == Forever::OneWorker && self.environment.rng.hits(300) {
            let taker = self.environment.queue.subscribe(&Name::default_name()).expect("it was made");
            let tickets: Vec<_> = taker.take(1).iter().map(|delivery| delivery.ticket).collect();
            taker.ack(&tickets);
        }
    }

    fn random_acts(&mut self) {
        let environment = self.environment.clone();
        let (rng, plan) = (&environment.rng, &environment.plan);
        let at = rng.index(self.machines.len());
        if rng.hits(plan.kill_per_mille) {
            environment.note(environment.clock.now(), format!("kill -9 of machine {at}"));
            let machine = &mut self.machines[at];
            machine.runtime = None;
            machine.weather.let_late_happen();
            machine.idle_until = self.elapsed.plus(Millis::from_ms(rng.ms(100, 8_000)));
        }
        if rng.hits(plan.freeze_per_mille) {
            environment.note(environment.clock.now(), format!("machine {at} stands still"));
            self.machines[at].weather.let_late_happen();
            self.machines[at].idle_until = self.elapsed.plus(Millis::from_ms(rng.ms(500, 15_000)));
        }
        if rng.hits(plan.step_per_mille) {
            let step = Millis::from_ms(rng.ms(-3_000, 3_000));
            environment
                .note(environment.clock.now(), format!("the databases' clock steps by {} ms", step.ms()));
            environment.clock.step(step);
        }
        if rng.hits(20) && self.machines[at].idle_until <= self.elapsed {
            self.machines[at].weather.let_late_happen();
        }
    }

    /// Nothing goes wrong any more, but for what stays broken.
    fn calm(&mut self) {
        self.environment.calm.store(true, Ordering::Relaxed);
        let broken = self.environment.plan.forever == Forever::OneNode;
        for (at, machine) in self.machines.iter_mut().enumerate() {
            machine.weather.calm();
            machine.idle_until = Timestamp::ZERO;
            if broken && at == 0 {
                machine.weather.set(FaultRates { before: 1_000, ..FaultRates::default() });
            }
        }
        let now = self.environment.clock.now();
        for config in &self.environment.configs {
            self.environment.held.let_go(*config, HoldReason::Paused);
        }
        let_all_go(&self.environment.store, &self.environment.configs, now);
        self.environment.leases.set_config_seq(self.environment.store_seq());
        self.environment.note(now, "let go");
    }

    fn come_to_rest(&mut self) -> Millis {
        let from = self.elapsed;
        while self.elapsed.since(from) < REST_WITHIN {
            self.slice(CALM_SLICE);
            if self.environment.store.open_tasks().is_empty() {
                return self.elapsed.since(from);
            }
        }
        let (open, last) =
            (self.environment.store.open_tasks(), self.environment.checker.lock().last_of_history());
        let seed = self.environment.plan.seed;
        panic!(
            "seed {seed}: broken promise: the cluster does not come to rest; still open: {open:#?}\n{last}"
        );
    }

    fn nothing_is_unaccounted_for(&mut self) {
        let (store, seed) = (self.environment.store.clone(), self.environment.plan.seed);
        let (scope, config_cache) = (FetchScope::Whole, store.config_cache().clone());
        let auditor = Auditor::new(store, scope, config_cache, 16, HoldsView::default());
        finish_off(auditor.step(self.environment.clock.now())).expect("no faults");
        let from = self.elapsed;
        while self.elapsed.since(from) < AUDIT_AGAIN {
            self.slice(CALM_SLICE);
        }
        let look = finish_off(auditor.step(self.environment.clock.now())).expect("no faults");
        assert_eq!(look.unaccounted(), 0, "seed {seed}: broken promise: {look:?}");
    }
}
