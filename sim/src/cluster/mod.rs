//! Several nodes on one store: the real member, pair keeper, fetcher and worker loops, each node in a runtime of its
//! own with virtual time. A node that is dropped is killed wherever it waits; one that gets no time is frozen, and
//! wakes up as a ghost when others have taken over. The clock of the database steps both ways, and each node follows
//! it by a clock of its own.

mod callee;
mod link;
mod node;
mod people;
mod plan;
mod view;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tsp_core::clock::ManualTime;
use tsp_core::config::TaskConfig;
use tsp_core::{Clock, ConfigId, Millis, Name, NodeId, ShardId, TaskId, Timestamp};
use tsp_fetcher::{Auditor, HoldsView};
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Feedback, FeedbackSink, Inbox, Subscriber};
use tsp_store::Catalog;
use tsp_store::cluster::{LeaseStore, Pair};
use tsp_store::memory::{MemoryLeases, MemoryStore};
use tsp_store::schedule::Owner;

use crate::callers::{let_all_go, make_configs};
use crate::chance::Chance;
use crate::checker::Checker;
use crate::clock::SimClock;
use crate::coverage::Coverage;
use crate::seeds::said;
use crate::weather::{FaultRates, Held, Waits, Weather, Why, finish_off};
use crate::world::{START, Story};

use plan::Forever;
pub(crate) use plan::{ClusterBug, ClusterPlan};

/// Of nodes and of pairs.
const LEASE: Millis = Millis::from_secs(5);
/// The most that each node gets of time at once, in milliseconds: it stops anywhere. And so much when all is calm.
const SLICE_MOST_MS: i64 = 60;
const CALM_SLICE: Millis = Millis::from_ms(200);
/// As of a world of one process.
const REST_WITHIN: Millis = Millis::from_secs(600);
const AUDIT_AGAIN: Millis = Millis::from_secs(15);

/// What the nodes share.
struct Ground {
    plan: ClusterPlan,
    store: Arc<MemoryStore>,
    leases: Arc<MemoryLeases>,
    pair: Pair,
    /// The databases'.
    clock: Arc<SimClock>,
    chance: Arc<Chance>,
    queue: Arc<MemoryQueue>,
    checker: Mutex<Checker>,
    held: Arc<Held>,
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

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Waits for virtual time, which costs none.
pub(crate) async fn pass(length: Millis) {
    tokio::time::sleep_until(Instant::now() + length.to_std()).await;
}

fn group() -> Name {
    Name::group("public").expect("a good name")
}

impl Ground {
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
        self.store.book().seq()
    }

    fn truth(&self, config: ConfigId) -> Option<Arc<TaskConfig>> {
        self.store.book().config(config)
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

impl FeedbackSink for Ground {
    fn report(&self, batch: Vec<Feedback>) {
        self.inboxes().iter().for_each(|inbox| inbox.report(batch.clone()));
    }
}

/// A machine with a process on it.
struct Machine {
    runtime: Option<(Runtime, JoinHandle<()>)>,
    time: Arc<ManualTime>,
    weather: Arc<Weather>,
    /// It gets no time before.
    idle_until: Timestamp,
    /// What it has missed.
    missed: Millis,
}

impl Machine {
    fn new(ground: &Ground) -> Self {
        let weather = Weather::new(ground.chance.clone(), Waits::ByTimer, ground.held.clone());
        weather.set(ground.plan.faults);
        Self {
            runtime: None,
            time: Arc::new(ManualTime::new()),
            weather: Arc::new(weather),
            idle_until: Timestamp::ZERO,
            missed: Millis::ZERO,
        }
    }

    fn run(&mut self, ground: &Arc<Ground>, length: Millis, world_now: Timestamp) {
        if world_now < self.idle_until {
            self.missed = self.missed.saturating_add(length);
            return;
        }
        let (time, weather) = (self.time.clone(), self.weather.clone());
        let (runtime, process) = self.runtime.get_or_insert_with(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.expect("a runtime");
            let process = runtime.spawn(node::live(ground.clone(), weather, time.clone()));
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
        assert!(!process.is_finished(), "seed {}: a process ended by itself", ground.plan.seed);
    }
}

pub(crate) struct Cluster {
    ground: Arc<Ground>,
    machines: Vec<Machine>,
    /// By no clock that steps.
    elapsed: Timestamp,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ground.fmt(f)
    }
}

impl Cluster {
    pub(crate) fn new(plan: ClusterPlan) -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let clock = Arc::new(SimClock::at(START));
        let read = clock.clone();
        let (delayed, cron) = make_configs(&store, START);
        let leases = MemoryLeases::new(1, 1, Box::new(move |_| read.now()));
        leases.set_config_seq(store.book().seq());
        let ground = Arc::new(Ground {
            store,
            leases: Arc::new(leases),
            pair: Pair { group: group(), shard: ShardId::new(0).expect("the first") },
            clock,
            chance: Arc::new(Chance::new(plan.seed)),
            queue: Arc::new(MemoryQueue::new([Name::lane()], 4_096)),
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
        let machines = (0..ground.plan.nodes).map(|_| Machine::new(&ground)).collect();
        Self { ground, machines, elapsed: Timestamp::ZERO }
    }

    /// Lets chance act, then brings the cluster to rest and checks everything.
    pub(crate) fn run(mut self) -> Story {
        for _ in 0..self.ground.plan.slices {
            self.chance_acts();
            self.slice(Millis::from_ms(self.ground.chance.ms(1, SLICE_MOST_MS)));
        }
        self.calm();
        let rested_after = self.come_to_rest();
        let ground = self.ground.clone();
        ground.checker.lock().at_rest(&ground.store.dump());
        self.nothing_is_unaccounted_for();
        // They end before their coverage is read.
        self.machines.iter_mut().for_each(|machine| machine.runtime = None);
        let mut coverage = Coverage::default();
        for machine in &self.machines {
            coverage.add(&machine.weather.coverage.lock());
        }
        let checker = std::mem::replace(&mut *ground.checker.lock(), Checker::new(0, true));
        Story { history: checker.into_history(), coverage, rested_after }
    }

    fn slice(&mut self, length: Millis) {
        self.ground.clock.step(length);
        self.elapsed = self.elapsed.plus(length);
        let first = self.ground.chance.index(self.machines.len());
        self.machines.rotate_left(first);
        for machine in &mut self.machines {
            machine.run(&self.ground, length, self.elapsed);
        }
        self.machines.rotate_right(first);
        self.ground.note_deaths();
        if let Some(broken) = self.ground.broken.lock().take() {
            panic!("{broken}");
        }
        if let Some(task) = self.ground.held.take_begun() {
            self.ground.checker.lock().require(false, "no begin after an answered pause", &task);
        }
        if self.ground.plan.forever == Forever::OneWorker && self.ground.chance.hits(300) {
            let taker = self.ground.queue.subscribe(&Name::lane()).expect("it was made");
            let tickets: Vec<_> = taker.take(1).iter().map(|delivery| delivery.ticket).collect();
            taker.ack(&tickets);
        }
    }

    fn chance_acts(&mut self) {
        let ground = self.ground.clone();
        let (chance, plan) = (&ground.chance, &ground.plan);
        let at = chance.index(self.machines.len());
        if chance.hits(plan.kill_per_mille) {
            ground.note(ground.clock.now(), format!("kill -9 of machine {at}"));
            let machine = &mut self.machines[at];
            machine.runtime = None;
            machine.weather.let_late_happen();
            machine.idle_until = self.elapsed.plus(Millis::from_ms(chance.ms(100, 8_000)));
        }
        if chance.hits(plan.freeze_per_mille) {
            ground.note(ground.clock.now(), format!("machine {at} stands still"));
            self.machines[at].weather.let_late_happen();
            self.machines[at].idle_until = self.elapsed.plus(Millis::from_ms(chance.ms(500, 15_000)));
        }
        if chance.hits(plan.step_per_mille) {
            let step = Millis::from_ms(chance.ms(-3_000, 3_000));
            ground.note(ground.clock.now(), format!("the databases' clock steps by {} ms", step.ms()));
            ground.clock.step(step);
        }
        if chance.hits(20) && self.machines[at].idle_until <= self.elapsed {
            self.machines[at].weather.let_late_happen();
        }
    }

    /// Nothing goes wrong any more, but for what stays broken.
    fn calm(&mut self) {
        self.ground.calm.store(true, Ordering::Relaxed);
        let broken = self.ground.plan.forever == Forever::OneNode;
        for (at, machine) in self.machines.iter_mut().enumerate() {
            machine.weather.calm();
            machine.idle_until = Timestamp::ZERO;
            if broken && at == 0 {
                machine.weather.set(FaultRates { before: 1_000, ..FaultRates::default() });
            }
        }
        let now = self.ground.clock.now();
        for config in &self.ground.configs {
            self.ground.held.let_go(*config, Why::Paused);
        }
        let_all_go(&self.ground.store, &self.ground.configs, now);
        self.ground.leases.set_config_seq(self.ground.store_seq());
        self.ground.note(now, "let go");
    }

    fn come_to_rest(&mut self) -> Millis {
        let from = self.elapsed;
        while self.elapsed.since(from) < REST_WITHIN {
            self.slice(CALM_SLICE);
            if self.ground.store.open_tasks().is_empty() {
                return self.elapsed.since(from);
            }
        }
        let (open, last) = (self.ground.store.open_tasks(), self.ground.checker.lock().last_of_history());
        let seed = self.ground.plan.seed;
        panic!(
            "seed {seed}: broken promise: the cluster does not come to rest; still open: {open:#?}\n{last}"
        );
    }

    fn nothing_is_unaccounted_for(&mut self) {
        let (store, seed) = (self.ground.store.clone(), self.ground.plan.seed);
        let auditor = Auditor::new(store.clone(), store.book().clone(), 16, HoldsView::default());
        finish_off(auditor.step(self.ground.clock.now())).expect("no faults");
        let from = self.elapsed;
        while self.elapsed.since(from) < AUDIT_AGAIN {
            self.slice(CALM_SLICE);
        }
        let look = finish_off(auditor.step(self.ground.clock.now())).expect("no faults");
        assert_eq!(look.unaccounted(), 0, "seed {seed}: broken promise: {look:?}");
    }
}
