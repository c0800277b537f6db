//! One life of the process: everything that a crash forgets.

use std::sync::Arc;

use tsp_consumer_core::{EndedAttempt, Intake, Item, Permits, Pipeline, PipelineDependencies, TaskContext};
use tsp_core::work::{Finish, FinishResult};
use tsp_core::{ConfigId, Entropy, Name, NodeId, Timestamp};
use tsp_fetcher::{Auditor, Fetcher, FetcherDependencies, FetcherOptions, Findings, Report, RetentionLoop};
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Delivery, Inbox, Message, Subscriber, Ticket};
use tsp_store::cluster::NodeLease;
use tsp_store::fetching::FetchScope;
use tsp_store::{IdSource, Result, StoreError, WholeStore};
use tsp_store_testing::memory::MemoryStore;

use crate::clock::SimClock;
use crate::faulty_pipe::FaultyPipe;
use crate::plan::{Plan, Sizes};
use crate::rng::SeededRng;
use crate::weather::Weather;

/// The outside of a process: what survives it.
#[derive(Clone)]
pub(crate) struct Environment {
    /// The rows themselves.
    pub(crate) store: Arc<MemoryStore>,
    /// What processes and callers see of them.
    pub(crate) faulty_store: Arc<dyn WholeStore>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) rng: Arc<SeededRng>,
}

impl Environment {
    /// A call to its end. One that was dropped on its way may have happened.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.weather.wait(call).unwrap_or_else(|| Err(cut()))
    }
}

fn cut() -> StoreError {
    StoreError::Unknown("the call was dropped".to_owned())
}

/// What callers have of a process.
#[derive(Clone)]
pub(crate) struct Hints {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ids: IdSource,
}

pub(crate) struct Process {
    pub(crate) hints: Hints,
    fetcher: Fetcher,
    auditor: Auditor,
    retention: RetentionLoop,
    pipeline: Pipeline,
    node: NodeId,
    subscriber: Arc<dyn Subscriber>,
    store: Arc<dyn WholeStore>,
    weather: Arc<Weather>,
    rng: Arc<SeededRng>,
    sizes: Sizes,
    permits: Permits,
    intake: Intake,
    /// Attempts that have run and wait to be saved.
    outcomes: Vec<EndedAttempt>,
    /// The last begin found messages; so there may be more.
    pub(crate) began: bool,
    /// When the fetcher wants its next turn.
    pub(crate) next_turn: Timestamp,
}

/// An attempt that goes out now.
#[derive(Debug)]
pub(crate) struct SentAttempt {
    pub(crate) context: TaskContext,
    pub(crate) ticket: Ticket,
}

/// What happens while a step waits.
pub(crate) type StepHook<'a> = &'a mut dyn FnMut();

impl Process {
    pub(crate) fn start(environment: &Environment, plan: &Plan, now: Timestamp) -> Result<Self> {
        let (store, sizes) = (environment.faulty_store.clone(), plan.sizes);
        let node = environment.wait(store.register_node("sim", now))?;
        let owner = environment.wait(store.take_shards(node, now))?;
        let ids = environment.wait(IdSource::lease(&*store, 0, now))?;
        let queue_name = Name::default_name();
        let queue = Arc::new(MemoryQueue::new([queue_name.clone()], sizes.queue));
        let subscriber: Arc<dyn Subscriber> = Arc::new(queue.subscribe(&queue_name).expect("just made"));
        let inbox = Arc::new(Inbox::new());
        let entropy: Arc<dyn Entropy> = environment.rng.clone();
        let publisher = Arc::new(FaultyPipe {
            queue,
            rng: environment.rng.clone(),
            lose_per_mille: plan.lose_per_mille,
            double_per_mille: plan.double_per_mille,
        });
        let deps = FetcherDependencies {
            config_cache: store.config_cache().clone(),
            shards: store.shards(),
            store: store.clone(),
            publisher,
            queue: queue_name,
            inbox: inbox.clone(),
            ids: ids.clone(),
            entropy: entropy.clone(),
            owner,
            totals: Arc::default(),
        };
        let options = FetcherOptions {
            pipe_timeout: sizes.pipe_timeout,
            lookahead: sizes.lookahead,
            window: sizes.window,
            ..FetcherOptions::default()
        };
        let pipeline = Pipeline::new(PipelineDependencies {
            store: store.clone(),
            node,
            lease: Arc::new(NodeLease::for_ever()),
            configs: store.config_cache().clone(),
            subscriber: subscriber.clone(),
            feedback: inbox.clone(),
            clock: environment.clock.clone(),
            entropy,
        });
        let fetcher = Fetcher::new(deps, options);
        Ok(Self {
            auditor: Auditor::new(
                store.clone(),
                FetchScope::Whole,
                store.config_cache().clone(),
                store.shards(),
                fetcher.holds(),
            ),
            retention: RetentionLoop::new(store.clone()),
            pipeline,
            node,
            hints: Hints { inbox, ids },
            fetcher,
            subscriber,
            store,
            weather: environment.weather.clone(),
            rng: environment.rng.clone(),
            sizes,
            permits: Permits::new(sizes.permits.0, sizes.permits.1),
            intake: Intake::default(),
            outcomes: Vec::new(),
            began: false,
            next_turn: now,
        })
    }

    /// One turn of the fetcher.
    pub(crate) fn fetch(&mut self, now: Timestamp, between: StepHook<'_>) -> Result<Report> {
        let report = self.weather.drive(self.fetcher.step(now), between).unwrap_or_else(|| Err(cut()));
        self.next_turn = match &report {
            Ok(report) => report.next,
            Err(_) => now.plus(tsp_core::Millis::from_ms(200)),
        };
        report
    }

    /// What a process does now and then: renews its ids, drops old rows, audits.
    pub(crate) fn keep(&mut self, now: Timestamp) -> Option<Findings> {
        let renewed = self.weather.wait(self.hints.ids.renew(&*self.store, now));
        if let Some(Err(error @ StoreError::Unusable(_))) = renewed {
            panic!("broken promise: a living process keeps its id slot: {error}");
        }
        // What fails is tried again.
        let _ = self.weather.wait(self.retention.step(now));
        self.weather.wait(self.auditor.step(now))?.ok()
    }

    /// One begin of the worker; what goes out.
    pub(crate) fn begin(&mut self, now: Timestamp, between: StepHook<'_>) -> Vec<SentAttempt> {
        // A failure is tried again by the next call.
        let _ = self.weather.drive(self.pipeline.reconcile(now), between);
        let most = self.permits.free().min(self.sizes.batch);
        let mut batch = Vec::new();
        self.intake.pick(&self.permits, most, now, &mut batch);
        let (items, found) = self.receive(between);
        for item in items {
            self.intake.offer(&self.permits, most, item, &mut batch);
        }
        self.began = found || !batch.is_empty();
        if batch.is_empty() {
            return Vec::new();
        }
        let copies: Vec<_> = batch.iter().map(copy_of).collect();
        let Some(report) = self.weather.drive(self.pipeline.begin(batch, now), between) else {
            for (config, _) in &copies {
                self.permits.put_back(*config);
            }
            self.leave(copies.into_iter().map(|(_, delivery)| delivery).collect());
            return Vec::new();
        };
        for (at, item) in report.again {
            self.permits.put_back(item.config);
            self.intake.put_early(at, item);
        }
        for config in report.dropped {
            self.permits.put_back(config);
        }
        report
            .started
            .into_iter()
            .map(|started| SentAttempt { context: started.context, ticket: started.ticket })
            .collect()
    }

    /// What is to be begun, and whether there was any message at all: also of those that are stale.
    fn receive(&self, between: StepHook<'_>) -> (Vec<Item>, bool) {
        let (mut items, bare) = self.pipeline.take(self.sizes.batch);
        let found = !(items.is_empty() && bare.is_empty());
        let copies: Vec<_> = bare.iter().map(|bare| (bare.message.clone(), bare.ticket)).collect();
        if let Some(loaded) = self.weather.drive(self.pipeline.load(bare), between) {
            items.extend(loaded.items);
        } else {
            let deliver = |(message, ticket)| Delivery { message, ticket };
            self.leave(copies.into_iter().map(deliver).collect());
        }
        (items, found)
    }

    /// Messages of a call that was dropped: they go back, or are lost with it.
    fn leave(&self, deliveries: Vec<Delivery>) {
        if self.rng.hits(500) {
            self.subscriber.requeue(deliveries);
        } else {
            let tickets: Vec<_> = deliveries.iter().map(|delivery| delivery.ticket).collect();
            self.subscriber.ack(&tickets);
        }
    }

    /// Hands a message back that waits for its time or for a permit.
    pub(crate) fn hand_back(&mut self, now: Timestamp, between: StepHook<'_>) {
        let items = self.intake.drain();
        let copies: Vec<_> = items.iter().map(|item| copy_of(item).1).collect();
        if self.weather.drive(self.pipeline.hand_back(items, now), between).is_none() {
            self.leave(copies);
        }
    }

    /// The answer of a call is in.
    pub(crate) fn executed(&mut self, executed: EndedAttempt) {
        self.permits.put_back(executed.task.config);
        self.outcomes.push(executed);
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// When anything is to be done without an event from outside.
    pub(crate) fn next_event(&self) -> Timestamp {
        let worker = self.intake.next_early().into_iter().chain(self.pipeline.reconcile_at());
        worker.fold(self.next_turn, Timestamp::min)
    }

    /// A repeated finish changes nothing.
    fn finish_again(&self, batch: Vec<Finish>, now: Timestamp) {
        for answer in
            self.weather.wait(self.store.finish(self.node, batch, now)).into_iter().flatten().flatten()
        {
            let late = answer == FinishResult::TooLate;
            assert!(late, "broken promise: an attempt is closed exactly once: {answer:?}");
        }
    }

    /// Saves what has run; what fails is kept and saved later.
    pub(crate) fn finish(&mut self, now: Timestamp, between: StepHook<'_>) {
        let count = self.outcomes.len().min(self.sizes.batch);
        let batch: Vec<EndedAttempt> = self.outcomes.drain(..count).collect();
        let copies: Vec<EndedAttempt> = batch.iter().map(again).collect();
        let Some(failures) = self.weather.drive(self.pipeline.finish(batch, now), between) else {
            self.outcomes.extend(copies);
            return;
        };
        if failures.is_empty() && self.rng.hits(100) {
            let finish = |executed: EndedAttempt| Finish {
                id: executed.task.id,
                attempt: executed.task.attempt,
                verdict: executed.verdict,
                ended_at: Some(executed.ended_at),
                jitter_fraction: 0.0,
                row: None,
            };
            self.finish_again(copies.into_iter().map(finish).collect(), now);
        }
        self.outcomes.extend(failures.into_iter().map(|failure| failure.executed));
    }
}

fn copy_of(item: &Item) -> (ConfigId, Delivery) {
    let message = Message { id: item.id, version: item.version, row: None };
    (item.config, Delivery { message, ticket: item.ticket })
}

fn again(executed: &EndedAttempt) -> EndedAttempt {
    EndedAttempt {
        ended_at: executed.ended_at,
        task: executed.task.clone(),
        ticket: executed.ticket,
        verdict: executed.verdict.clone(),
    }
}
