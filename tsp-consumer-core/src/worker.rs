//! The loops around the pipeline: one begins, one finishes, and each attempt runs beside them.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::outcome::Verdict;
use tsp_core::{Millis, Timestamp};

use crate::handler::TaskHandler;
use crate::intake::Intake;
use crate::lanes::Lanes;
use crate::pipeline::{Executed, Pipeline, Started};

/// Above this many waiting outcomes none waits any longer: at high load the batches make themselves.
const FINISH_AT_ONCE: usize = 32;
const FINISH_AGAIN_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Attempts running at once.
    pub concurrency: usize,
    /// Of these, at most so many of one config.
    pub per_config: usize,
    /// Rows in one begin or finish.
    pub batch: usize,
    /// How long an outcome may wait for others at low load. The row is at 30 meanwhile, so waiting is
    /// safe; a crash then repeats the call.
    pub finish_wait: Duration,
    /// How long running attempts may go on after a stop.
    pub shutdown_grace: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 1_024,
            per_config: 256,
            batch: 256,
            finish_wait: Duration::from_millis(15),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    pipeline: Arc<Pipeline>,
    handler: Arc<dyn TaskHandler>,
    lanes: Arc<Lanes>,
    options: WorkerOptions,
}

impl Worker {
    pub fn new(pipeline: Pipeline, handler: Arc<dyn TaskHandler>, options: WorkerOptions) -> Self {
        let lanes = Arc::new(Lanes::new(options.concurrency, options.per_config));
        Self { pipeline: Arc::new(pipeline), handler, lanes, options }
    }

    /// Another one on the same lanes: what holds up the pipeline of one of them holds up no other.
    #[must_use]
    pub fn beside(&self, pipeline: Pipeline) -> Self {
        Self {
            pipeline: Arc::new(pipeline),
            handler: self.handler.clone(),
            lanes: self.lanes.clone(),
            options: self.options.clone(),
        }
    }

    /// Runs until `stop`, then lets running attempts end (up to the grace) and hands the rest back.
    pub async fn run(self, stop: CancellationToken) {
        let (outcomes, inbox) = mpsc::unbounded_channel();
        let attempts = TaskTracker::new();
        let (finishing, last_call) = (TaskTracker::new(), CancellationToken::new());
        let finish = FinishLoop {
            pipeline: self.pipeline.clone(),
            options: self.options.clone(),
            last_call: last_call.clone(),
        };
        finishing.spawn(finish.run(inbox));
        finishing.close();

        let mut intake = Intake::default();
        let mut freed = self.lanes.freed();
        while !stop.is_cancelled() {
            let now = self.pipeline.clock.now();
            if let Err(error) = self.pipeline.reconcile(now).await {
                tracing::warn!(%error, "could not compare what runs with the rows, will try again");
            }
            if !self.step(now, &mut intake, &attempts, &outcomes).await {
                self.wait(now, &intake, &mut freed, &stop).await;
            }
        }
        self.hand_back(intake).await;
        attempts.close();
        let all = async {
            attempts.wait().await;
            // The finish loop ends when it has saved what the last attempt sent.
            drop(outcomes);
            finishing.wait().await;
        };
        if tokio::time::timeout(self.options.shutdown_grace, all).await.is_err() {
            let running = attempts.len();
            tracing::warn!(running, "the grace is over; what still runs or is not saved will come again");
            last_call.cancel();
        }
        finishing.wait().await;
    }

    /// Begins one batch; says whether there may be more to do at once.
    async fn step(
        &self,
        now: Timestamp,
        intake: &mut Intake,
        attempts: &TaskTracker,
        outcomes: &mpsc::UnboundedSender<Executed>,
    ) -> bool {
        let most = self.lanes.free().min(self.options.batch);
        let mut batch = Vec::new();
        intake.pick(&self.lanes, most, now, &mut batch);
        while batch.len() < most {
            let items = match self.pipeline.receive(most - batch.len()).await {
                Ok(items) => items,
                Err(error) => {
                    tracing::warn!(%error, "could not load the rows of messages");
                    tokio::time::sleep(FINISH_AGAIN_AFTER).await;
                    break;
                }
            };
            if items.is_empty() {
                break;
            }
            for item in items {
                intake.offer(&self.lanes, most, item, &mut batch);
            }
        }
        if batch.is_empty() {
            return false;
        }
        let report = self.pipeline.begin(batch, now).await;
        for (at, item) in report.again {
            self.lanes.give_back(item.config);
            intake.put_early(at, item);
        }
        for config in report.dropped {
            self.lanes.give_back(config);
        }
        for started in report.started {
            attempts.spawn(attempt(
                self.pipeline.clone(),
                self.handler.clone(),
                self.lanes.clone(),
                started,
                outcomes.clone(),
            ));
        }
        true
    }

    async fn wait(
        &self,
        now: Timestamp,
        intake: &Intake,
        freed: &mut watch::Receiver<()>,
        stop: &CancellationToken,
    ) {
        let early = async {
            match intake.next_early().into_iter().chain(self.pipeline.reconcile_at()).min() {
                Some(at) => tokio::time::sleep(at.since(now).max(Millis::from_ms(1)).to_std()).await,
                None => std::future::pending().await,
            }
        };
        let arrived = async {
            if self.lanes.free() == 0 {
                std::future::pending::<()>().await;
            } else {
                self.pipeline.subscriber.ready().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = arrived => {}
            _ = freed.changed() => {}
            () = early => {}
        }
    }

    async fn hand_back(&self, mut intake: Intake) {
        let mut unbegun = intake.drain();
        while let Ok(items) = self.pipeline.receive(self.options.batch).await {
            if items.is_empty() {
                break;
            }
            unbegun.extend(items);
        }
        if !unbegun.is_empty() {
            self.pipeline.hand_back(unbegun, self.pipeline.clock.now()).await;
        }
    }
}

async fn attempt(
    pipeline: Arc<Pipeline>,
    handler: Arc<dyn TaskHandler>,
    lanes: Arc<Lanes>,
    started: Started,
    outcomes: mpsc::UnboundedSender<Executed>,
) {
    let Started { mut context, ticket } = started;
    context.now = pipeline.clock.now();
    pipeline.observer.sent(&context.task, &context.config, context.now);
    let verdict = unwound(handler.execute(&context)).await.unwrap_or_else(|| {
        tracing::error!(task = %context.task.id, "the handler panicked");
        Verdict::retry("handler_panicked")
    });
    let config = context.task.config;
    // A closed channel means that the worker stopped without us; the rescuer closes the attempt.
    let _ = outcomes.send(Executed { ended_at: pipeline.clock.now(), task: context.task, ticket, verdict });
    lanes.give_back(config);
}

/// `None` when it panicked: a handler's panic is an outcome like any other, and neither keeps its lane
/// nor leaves its row behind.
async fn unwound<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

struct FinishLoop {
    pipeline: Arc<Pipeline>,
    options: WorkerOptions,
    /// From now on nothing more comes in, and what cannot be saved is left to the rescuer.
    last_call: CancellationToken,
}

impl FinishLoop {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Executed>) {
        let mut batch = Vec::new();
        loop {
            if batch.is_empty() {
                let received = tokio::select! {
                    received = inbox.recv_many(&mut batch, self.options.batch) => received,
                    () = self.last_call.cancelled(), if !inbox.is_closed() => {
                        inbox.close();
                        continue;
                    }
                };
                if received == 0 {
                    return;
                }
            }
            if batch.len() < FINISH_AT_ONCE && !self.options.finish_wait.is_zero() {
                gather(&mut inbox, &mut batch, &self.options).await;
            }
            if !self.save(&batch).await {
                return;
            }
            batch.clear();
        }
    }

    /// Tries until it is done; says whether it is.
    async fn save(&self, batch: &[Executed]) -> bool {
        while let Err(error) = self.pipeline.finish(batch, self.pipeline.clock.now()).await {
            tracing::warn!(%error, outcomes = batch.len(), "could not save outcomes, will try again");
            if self.last_call.is_cancelled() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(FINISH_AGAIN_AFTER) => {}
                () = self.last_call.cancelled() => {}
            }
        }
        true
    }
}

/// Waits for more outcomes, until there are enough or the wait is over.
async fn gather(
    inbox: &mut mpsc::UnboundedReceiver<Executed>,
    batch: &mut Vec<Executed>,
    options: &WorkerOptions,
) {
    let until = tokio::time::Instant::now() + options.finish_wait;
    while batch.len() < FINISH_AT_ONCE {
        let room = options.batch - batch.len();
        match tokio::time::timeout_at(until, inbox.recv_many(batch, room)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
