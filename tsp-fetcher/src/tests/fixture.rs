//! What the tests stand on: a store in memory with one app, a queue, a fetcher, and a worker played by
//! hand. Every turn is taken through [`Fixture::run_until_idle`], which does not let the fetcher busy-loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use tsp_core::config::{ConfigSpec, HttpTarget, Kind, OnDuplicateKey, TaskConfig};
use tsp_core::outcome::Verdict;
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::task_key::config_shard;
use tsp_core::work::{BeginRequest, BeginResult, Finish, FinishResult};
use tsp_core::{AppId, ConfigId, Entropy, Millis, Name, NodeId, TaskId, Timestamp};
use tsp_queue::memory::{MemoryQueue, MemorySubscriber};
use tsp_queue::{Delivery, Feedback, FeedbackSink, Inbox, Subscriber};
use tsp_store::attempts::{AttemptStore, all};
use tsp_store::catalog::{AppSaved, Catalog, ConfigSaved, ExpectedVersion, Hold, NewApp, SaveConfig};
use tsp_store::fetching::{EmbeddedOwnership, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore};
use tsp_store::{IdSlots as _, IdSource, Result};
use tsp_store_testing::memory::{Fault, MemoryStore};

use crate::{Fetcher, FetcherDependencies, FetcherOptions, Report};

/// A round minute, so that schedules are easy to read.
pub(super) const T0: Timestamp = Timestamp::from_ms(1_795_257_000_000);
/// Nothing is published twice within a tick.
pub(super) const TICK: Millis = Millis::from_ms(3);
/// More turns than any test needs for what is due at one moment.
const TURNS_MAX: usize = 2_000;

pub(super) const fn ms(ms: i64) -> Millis {
    Millis::from_ms(ms)
}

/// This long after the beginning.
pub(super) const fn at(after_ms: i64) -> Timestamp {
    T0.plus(ms(after_ms))
}

pub(super) fn done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the store in memory never waits")
}

#[derive(Debug)]
struct Still;

impl Entropy for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

#[derive(Debug, Default)]
struct Watch {
    calls: BTreeMap<&'static str, usize>,
    /// Faults to come, by call: the first comes first.
    faults: BTreeMap<&'static str, Vec<Fault>>,
}

pub(super) struct Fixture {
    pub(super) store: Arc<MemoryStore>,
    pub(super) worker: MemorySubscriber,
    pub(super) inbox: Arc<Inbox>,
    pub(super) fetcher: Fetcher,
    pub(super) owner: Owner,
    pub(super) now: Timestamp,
    /// Of tasks submitted from now on.
    pub(super) expire_after: Option<Millis>,
    app: AppId,
    options: FetcherOptions,
    queue: Arc<MemoryQueue>,
    watch: Arc<Mutex<Watch>>,
    ids: IdSource,
}

/// Changes a spec before it is saved.
pub(super) type Edit = fn(&mut ConfigSpec);

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(FetcherOptions { publish_tick: TICK, ..FetcherOptions::default() }, 4_096)
    }

    pub(super) fn with(options: FetcherOptions, queue_capacity: usize) -> Self {
        let store = Arc::new(MemoryStore::new(16));
        let node = done(store.register_node("fixture", T0)).expect("register");
        let owner = done(store.take_shards(node, T0)).expect("take shards");
        let ids = lease_ids(&store, 1);
        let app = new_app(&store, "trade");
        let queue_name = name("default");
        let queue = Arc::new(MemoryQueue::new([queue_name.clone()], queue_capacity));
        let worker = queue.subscribe(&queue_name).expect("just made");
        let watch = Arc::new(Mutex::new(Watch::default()));
        let seen = watch.clone();
        store.set_faults(Box::new(move |call| {
            let mut watch = seen.lock();
            *watch.calls.entry(call).or_default() += 1;
            let faults = watch.faults.get_mut(call).filter(|faults| !faults.is_empty());
            faults.map_or(Fault::None, |faults| faults.remove(0))
        }));
        let inbox = Arc::new(Inbox::new());
        let fetcher = fetcher(&store, &queue, &inbox, owner, options.clone());
        Self {
            store,
            worker,
            inbox,
            fetcher,
            owner,
            now: T0,
            expire_after: None,
            app,
            options,
            queue,
            watch,
            ids,
        }
    }

    /// The process dies and starts again: another node, another epoch, nothing remembered, an empty queue.
    pub(super) fn restart(&mut self) {
        let node = done(self.store.register_node("fixture", self.now)).expect("register");
        self.owner = done(self.store.take_shards(node, self.now)).expect("take shards");
        self.queue = Arc::new(MemoryQueue::new([name("default")], 4_096));
        self.worker = self.queue.subscribe(&name("default")).expect("just made");
        self.forget();
    }

    /// The fetcher forgets everything and nothing else happens.
    pub(super) fn forget(&mut self) {
        self.inbox = Arc::new(Inbox::new());
        self.fetcher = fetcher(&self.store, &self.queue, &self.inbox, self.owner, self.options.clone());
    }

    // --- configs ---

    /// Configs made from now on are of a new app.
    pub(super) fn next_app(&mut self, app: &str) {
        self.app = new_app(&self.store, app);
    }

    pub(super) fn delayed(&self, config: &str) -> ConfigId {
        self.config(config, None, |_| {})
    }

    pub(super) fn config(&self, config: &str, schedule: Option<Schedule>, edit: Edit) -> ConfigId {
        let mut spec = spec(config, schedule);
        edit(&mut spec);
        match self.save(spec, ExpectedVersion::Absent) {
            ConfigSaved::Created(config) => config.id,
            other => panic!("a new config must be created: {other:?}"),
        }
    }

    /// Saves a changed config and says so.
    pub(super) fn edit(&self, id: ConfigId, edit: impl FnOnce(&mut ConfigSpec)) {
        let mut spec = self.cached_config(id).spec.clone();
        edit(&mut spec);
        self.save(spec, ExpectedVersion::Any);
        self.inbox.changed(id);
    }

    fn save(&self, spec: ConfigSpec, expected: ExpectedVersion) -> ConfigSaved {
        let save = SaveConfig { app: self.app, spec, expected };
        match done(self.store.save_config(save, None, &Actor::system(), self.now)) {
            Ok(IdempotencyResult::Fresh(saved)) => saved,
            other => panic!("a config must be saved: {other:?}"),
        }
    }

    pub(super) fn cached_config(&self, id: ConfigId) -> Arc<TaskConfig> {
        self.store.config_cache().config(id).expect("the config exists")
    }

    /// Without a hint.
    pub(super) fn hold(&self, config: ConfigId, hold: Hold) {
        done(self.store.hold_config(config, hold, &Actor::system(), self.now)).expect("hold");
    }

    pub(super) fn pause(&self, config: ConfigId) {
        self.hold(config, Hold::Pause { note: None });
    }

    // --- tasks ---

    /// Begins at the machine's time, for a test that has its clock from there.
    pub(super) fn begin_at(&mut self, now: Timestamp) {
        self.now = now;
        done(self.ids.renew(&*self.store, now.plus(Millis::from_days(365)))).expect("renew ids");
    }

    /// Submits and hints.
    pub(super) fn submit(&self, config: ConfigId, due_at: Timestamp) -> TaskId {
        let id = self.submit_silently(config, due_at);
        self.inbox.due(config, due_at);
        id
    }

    pub(super) fn submit_silently(&self, config: ConfigId, due_at: Timestamp) -> TaskId {
        self.submit_many(config, &[due_at])[0]
    }

    pub(super) fn submit_many(&self, config: ConfigId, due: &[Timestamp]) -> Vec<TaskId> {
        let batch = due.iter().map(|due_at| {
            let shard = config_shard(config, self.store.shards());
            let id = self.ids.next(shard, self.now).expect("an id");
            let new = NewTask {
                id,
                config,
                key: None,
                execute_at: *due_at,
                payload: None,
                expire_after: self.expire_after,
                origin: Origin::Submit,
                extra: None,
            };
            let task = Box::new(Task::new(new, self.now));
            Submit { task, on_duplicate: OnDuplicateKey::Add, own_payload: true, idempotency: None }
        });
        let answers = done(self.store.submit(batch.collect(), self.now)).expect("submit");
        let id = |answer| match answer {
            IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => task.id,
            other => panic!("a new task must be created: {other:?}"),
        };
        answers.into_iter().map(id).collect()
    }

    pub(super) fn change(&self, task: TaskId, command: TaskCommand) -> Task {
        match done(self.store.change(Subject::Id(task), command, &Actor::system(), self.now)) {
            Ok(CommandResult::Done { task, .. }) => *task,
            other => panic!("the change must be done: {other:?}"),
        }
    }

    pub(super) fn task(&self, id: TaskId) -> Task {
        done(self.store.task(id)).expect("task").expect("the task exists")
    }

    pub(super) fn status(&self, id: TaskId) -> Status {
        self.task(id).status
    }

    /// The times of the tasks that the schedule of `config` has made, in order.
    pub(super) fn made(&self, config: ConfigId) -> Vec<i64> {
        let ledger = self.store.dump();
        let tasks = ledger.open.iter().chain(&ledger.ended);
        let mut made: Vec<i64> = tasks
            .filter(|task| task.config == config && task.origin == Origin::Schedule)
            .map(|task| task.execute_at.since(T0).ms())
            .collect();
        made.sort_unstable();
        made
    }

    // --- turns ---

    /// One turn.
    pub(super) fn step(&mut self) -> Result<Report> {
        let report = done(self.fetcher.step(self.now))?;
        assert!(report.next >= self.now, "the next turn lies in the past: {report:?}");
        assert!(
            report.turn.events_before >= report.next,
            "an event of what is due before the next turn would not wake: {report:?}"
        );
        Ok(report)
    }

    /// Turns until none is wanted at this moment.
    pub(super) fn run_until_idle(&mut self) -> Report {
        let mut sum = self.step().expect("no faults");
        for _ in 0..TURNS_MAX {
            if sum.next > self.now || sum.deposed {
                return sum;
            }
            let report = self.step().expect("no faults");
            sum = Report {
                claimed: sum.claimed + report.claimed,
                published: sum.published + report.published,
                fired: sum.fired + report.fired,
                rescued: sum.rescued + report.rescued,
                ..report
            };
        }
        panic!("the fetcher turns in a circle: {sum:?}");
    }

    /// Goes from turn to turn, as the fetcher asks for them, up to `end`, and runs until idle there.
    pub(super) fn go_to(&mut self, end: Timestamp) -> Report {
        loop {
            let report = self.run_until_idle();
            if self.now == end || report.deposed {
                return report;
            }
            self.now = report.next.min(end);
        }
    }

    // --- the worker ---

    pub(super) fn take(&self) -> Vec<Delivery> {
        self.worker.take(usize::MAX >> 1)
    }

    pub(super) fn taken(&self) -> Vec<TaskId> {
        self.take().iter().map(|delivery| delivery.message.id).collect()
    }

    /// Begins what is in the pipe, and leaves it running.
    pub(super) fn begin_all(&self) -> Vec<Task> {
        self.take().iter().filter_map(|delivery| self.begin(delivery, self.owner.node)).collect()
    }

    pub(super) fn begin(&self, delivery: &Delivery, node: NodeId) -> Option<Task> {
        let Delivery { message, ticket } = delivery;
        // As a worker mints one: only who has a token can complete what it accepted.
        let config =
            self.store.dump().task(message.id).and_then(|task| self.store.config_cache().config(task.config));
        let token = config.filter(|config| config.spec.asynchronous.enabled).map(|_| [7; 32]);
        let begin = BeginRequest { id: message.id, version: message.version, row: None, token };
        let answers = all(done(self.store.begin(node, vec![begin], self.now))).expect("begin");
        if let Some(BeginResult::Run(task)) = answers.into_iter().next() {
            return Some(*task);
        }
        self.worker.ack(&[*ticket]);
        None
    }

    /// Saves an outcome and says so.
    pub(super) fn finish(&self, task: &Task, verdict: Verdict) -> Task {
        let park = verdict.park;
        let finish = Finish {
            id: task.id,
            attempt: task.attempt,
            verdict,
            ended_at: None,
            jitter_fraction: 0.0,
            row: None,
        };
        let answers = all(done(self.store.finish(self.owner.node, vec![finish], self.now))).expect("finish");
        let Some(FinishResult::Saved(row)) = answers.into_iter().next() else {
            panic!("the outcome of {} must count", task.id)
        };
        let due_again = Some(row.due_at).filter(|_| row.status == Status::Scheduled);
        let awaits_until = Some(row.due_at).filter(|_| row.status == Status::Awaiting);
        let said = Feedback {
            task: row.id,
            config: Some(row.config),
            version: task.version,
            due_again,
            awaits_until,
            park,
        };
        self.inbox.report(vec![said]);
        *row
    }

    /// Runs all that is in the pipe to a good end; the ids, in order.
    pub(super) fn work(&self) -> Vec<TaskId> {
        let deliveries = self.take();
        let tickets: Vec<_> = deliveries.iter().map(|delivery| delivery.ticket).collect();
        let begun: Vec<_> =
            deliveries.iter().filter_map(|delivery| self.begin(delivery, self.owner.node)).collect();
        self.worker.ack(&tickets);
        begun.iter().map(|task| self.finish(task, Verdict::done()).id).collect()
    }

    // --- faults ---

    /// The calls since the last time, by name.
    pub(super) fn calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.watch.lock().calls)
    }

    pub(super) fn fail(&self, call: &'static str, faults: &[Fault]) {
        self.watch.lock().faults.insert(call, faults.to_vec());
    }
}

fn new_app(store: &MemoryStore, app: &str) -> AppId {
    let new = NewApp { name: name(app), description: String::new(), owner: String::new() };
    match done(store.create_app(new, None, &Actor::system(), T0)) {
        Ok(IdempotencyResult::Fresh(AppSaved::Saved(app))) => app.id,
        other => panic!("a new app must be saved: {other:?}"),
    }
}

/// For a year, which is longer than any test goes.
fn lease_ids(store: &MemoryStore, slot: u8) -> IdSource {
    // Each life begins where the one before may have been.
    let left = done(store.renew_id_slot(slot, T0)).expect("the slot is there");
    let ids = done(IdSource::lease(store, slot, T0)).expect("lease ids");
    done(ids.renew(store, left.max(T0).plus(Millis::from_days(365)))).expect("renew ids");
    ids
}

fn fetcher(
    store: &Arc<MemoryStore>,
    queue: &Arc<MemoryQueue>,
    inbox: &Arc<Inbox>,
    owner: Owner,
    options: FetcherOptions,
) -> Fetcher {
    let ids = lease_ids(store, 0);
    let deps = FetcherDependencies {
        config_cache: store.config_cache().clone(),
        shards: store.shards(),
        store: store.clone(),
        publisher: queue.clone(),
        queue: Name::default_name(),
        inbox: inbox.clone(),
        ids,
        entropy: Arc::new(Still),
        owner,
        totals: Arc::default(),
    };
    Fetcher::new(deps, options)
}

pub(super) fn name(text: &str) -> Name {
    Name::queue(text).expect("a good name")
}

/// Every so many seconds from the beginning on, with the default policies.
pub(super) fn every(seconds: i64) -> Schedule {
    let every = Every::new(Millis::from_secs(seconds), T0).expect("a good interval");
    Schedule::new(Trigger::Every(every))
}

pub(super) fn every_with(seconds: i64, overlap: Overlap) -> Schedule {
    Schedule { overlap, ..every(seconds) }
}

fn spec(config: &str, schedule: Option<Schedule>) -> ConfigSpec {
    let backoff = Backoff::List(vec![ms(400)]);
    ConfigSpec {
        kind: if schedule.is_some() { Kind::Cron } else { Kind::Delayed },
        schedule,
        retry: RetryPolicy { backoff, jitter: 0.0, ..RetryPolicy::default() },
        ..ConfigSpec::new(name(config), HttpTarget::post("http://receiver.test/"))
    }
}
