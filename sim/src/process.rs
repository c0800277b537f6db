//! One life of the process: everything that a crash forgets.

use std::sync::Arc;

use futures::FutureExt;
use tsp_consumer_core::{Executed, Intake, Lanes, Pipeline, TaskContext, TaskService};
use tsp_core::work::{Finish, Finished};
use tsp_core::{Entropy, ManualClock, Millis, Name, Timestamp};
use tsp_fetcher::{Fetcher, FetcherOptions, Parts, Report, WindowLimits};
use tsp_queue::memory::MemoryQueue;
use tsp_queue::{Inbox, Ticket};
use tsp_store::cluster::NodeLease;
use tsp_store::memory::MemoryStore;
use tsp_store::{IdSource, Result, WholeStore};
use tsp_worker::DirectTaskService;

use crate::chance::Chance;
use crate::faults::FaultyPipe;
use crate::world::Plan;

/// Rows in one begin or finish; small, so that batches meet.
const BATCH: usize = 8;
/// So little room that every bound is met.
const NARROW: WindowLimits = WindowLimits {
    in_pipe_per_config: 8,
    claimed_per_config: 16,
    backlog_per_config: 8,
    claimed: 64,
    // Some rows travel with their message and some do not.
    bytes_per_config: 4_096,
    bytes: 12_288,
};

/// The outside of a process: what survives it.
#[derive(Clone)]
pub(crate) struct Ground {
    /// The rows themselves.
    pub(crate) store: Arc<MemoryStore>,
    /// What processes and callers see of them.
    pub(crate) door: Arc<dyn WholeStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) chance: Arc<Chance>,
}

pub(crate) struct Process {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ids: IdSource,
    fetcher: Fetcher,
    pipeline: Pipeline,
    service: Arc<dyn TaskService>,
    chance: Arc<Chance>,
    lanes: Lanes,
    intake: Intake,
    /// Attempts that have run and wait to be saved.
    outcomes: Vec<Executed>,
    /// When the fetcher wants its next turn.
    pub(crate) next_turn: Timestamp,
}

/// An attempt that goes out now.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) context: TaskContext,
    pub(crate) ticket: Ticket,
}

/// Nothing in a simulated process waits: the store and the queue answer at once.
pub(crate) fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a simulated future waits for nothing")
}

impl Process {
    pub(crate) fn start(ground: &Ground, plan: &Plan, now: Timestamp) -> Result<Self> {
        let store = ground.door.clone();
        let node = now_or_never(store.register_node("sim", now))?;
        let owner = now_or_never(store.take_shards(node, now))?;
        let ids = now_or_never(IdSource::lease(&*ground.store, 0, now))?;
        let queue_name = Name::lane();
        let queue = Arc::new(MemoryQueue::new([queue_name.clone()], if plan.healthy { 4_096 } else { 32 }));
        let subscriber = Arc::new(queue.subscribe(&queue_name).expect("just made"));
        let inbox = Arc::new(Inbox::new());
        let entropy: Arc<dyn Entropy> = ground.chance.clone();
        let publisher = Arc::new(FaultyPipe {
            queue,
            chance: ground.chance.clone(),
            lose_per_mille: plan.lose_per_mille,
            double_per_mille: plan.double_per_mille,
        });
        let parts = Parts {
            book: store.book().clone(),
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
        let window = if plan.healthy { WindowLimits::default() } else { NARROW };
        let lanes = if plan.healthy { Lanes::new(1_000, 1_000) } else { Lanes::new(8, 4) };
        let options =
            FetcherOptions { pipe_timeout: Millis::from_secs(3), window, ..FetcherOptions::default() };
        let service: Arc<dyn TaskService> = Arc::new(DirectTaskService::new(
            store.clone(),
            store.book().clone(),
            node,
            Arc::new(NodeLease::for_ever()),
        ));
        let clock = ground.clock.clone();
        let pipeline = Pipeline::new(service.clone(), subscriber, inbox.clone(), clock, entropy);
        Ok(Self {
            inbox,
            ids,
            fetcher: Fetcher::new(parts, options),
            pipeline,
            service,
            chance: ground.chance.clone(),
            lanes,
            intake: Intake::default(),
            outcomes: Vec::new(),
            next_turn: now,
        })
    }

    /// One turn of the fetcher.
    pub(crate) fn fetch(&mut self, now: Timestamp) -> Result<Report> {
        let report = now_or_never(self.fetcher.step(now));
        self.next_turn = match &report {
            Ok(report) => report.next,
            Err(_) => now.plus(Millis::from_ms(200)),
        };
        report
    }

    /// One begin of the worker; what goes out.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Vec<Sent> {
        // A failure is tried again by the next call.
        let _ = now_or_never(self.pipeline.reconcile(now));
        let most = self.lanes.free().min(BATCH);
        let mut batch = Vec::new();
        self.intake.pick(&self.lanes, most, now, &mut batch);
        for item in now_or_never(self.pipeline.receive(BATCH)) {
            self.intake.offer(&self.lanes, most, item, &mut batch);
        }
        if batch.is_empty() {
            return Vec::new();
        }
        let report = now_or_never(self.pipeline.begin(batch, now));
        for (at, item) in report.again {
            self.lanes.give_back(item.config);
            self.intake.put_early(at, item);
        }
        for config in report.dropped {
            self.lanes.give_back(config);
        }
        report
            .started
            .into_iter()
            .map(|started| Sent { context: started.context, ticket: started.ticket })
            .collect()
    }

    /// The answer of a call is in.
    pub(crate) fn executed(&mut self, executed: Executed) {
        self.lanes.give_back(executed.task.config);
        self.outcomes.push(executed);
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// When anything is to be done without news from outside.
    pub(crate) fn next_event(&self) -> Timestamp {
        let worker = self.intake.next_early().into_iter().chain(self.pipeline.reconcile_at());
        worker.fold(self.next_turn, Timestamp::min)
    }

    /// A finish that comes again changes nothing.
    fn finish_again(&self, batch: Vec<Finish>, now: Timestamp) {
        for answer in now_or_never(self.service.finish(batch, now)).into_iter().flatten() {
            let late = answer == Finished::TooLate;
            assert!(late, "broken promise: an attempt is closed exactly once: {answer:?}");
        }
    }

    /// Saves what has run; what fails is kept and saved later.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        let count = self.outcomes.len().min(BATCH);
        let batch: Vec<Executed> = self.outcomes.drain(..count).collect();
        let again = batch.iter().map(|executed| Finish {
            id: executed.task.id,
            attempt: executed.task.attempt,
            verdict: executed.verdict.clone(),
            ended_at: Some(executed.ended_at),
            unit: 0.0,
            row: None,
        });
        let again: Vec<Finish> = again.collect();
        let failures = now_or_never(self.pipeline.finish(batch, now));
        if failures.is_empty() && self.chance.hits(100) {
            self.finish_again(again, now);
        }
        self.outcomes.extend(failures.into_iter().map(|failure| failure.executed));
    }
}
