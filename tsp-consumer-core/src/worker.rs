//! The loops around the pipeline: one begins, one finishes, and each attempt runs beside them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
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

    /// Runs until `stop`, then lets running attempts end (up to the grace) and hands the rest back.
    pub async fn run(self, stop: CancellationToken) {
        let (outcomes, inbox) = mpsc::unbounded_channel();
        let attempts = TaskTracker::new();
        let finishing = TaskTracker::new();
        let finish = finish_loop(self.pipeline.clone(), inbox, self.options.clone());
        finishing.spawn(finish);
        finishing.close();

        let mut intake = Intake::default();
        while !stop.is_cancelled() {
            let now = self.pipeline.clock.now();
            if let Err(error) = self.pipeline.reconcile(now).await {
                tracing::warn!(%error, "could not compare what runs with the rows, will try again");
            }
            if !self.step(now, &mut intake, &attempts, &outcomes).await {
                self.wait(now, &intake, &stop).await;
            }
        }
        self.stop(intake, attempts, outcomes).await;
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

    async fn wait(&self, now: Timestamp, intake: &Intake, stop: &CancellationToken) {
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
            () = self.lanes.freed() => {}
            () = early => {}
        }
    }

    async fn stop(
        &self,
        mut intake: Intake,
        attempts: TaskTracker,
        outcomes: mpsc::UnboundedSender<Executed>,
    ) {
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
        attempts.close();
        let running = attempts.len();
        if tokio::time::timeout(self.options.shutdown_grace, attempts.wait()).await.is_err() {
            let left = attempts.len();
            tracing::warn!(running, left, "stopping with attempts still running; they will come again");
        }
        // The finish loop ends when the last attempt has dropped its sender, or now.
        drop(outcomes);
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
    let verdict = handler.execute(&context).await;
    let config = context.task.config;
    // A closed channel means that the worker stopped without us; the rescuer closes the attempt.
    let _ = outcomes.send(Executed { task: context.task, ticket, verdict });
    lanes.give_back(config);
}

async fn finish_loop(
    pipeline: Arc<Pipeline>,
    mut inbox: mpsc::UnboundedReceiver<Executed>,
    options: WorkerOptions,
) {
    let mut batch = Vec::new();
    loop {
        if batch.is_empty() && inbox.recv_many(&mut batch, options.batch).await == 0 {
            return;
        }
        if batch.len() < FINISH_AT_ONCE && !options.finish_wait.is_zero() {
            gather(&mut inbox, &mut batch, &options).await;
        }
        while let Err(error) = pipeline.finish(&batch, pipeline.clock.now()).await {
            tracing::warn!(%error, outcomes = batch.len(), "could not save outcomes, will try again");
            tokio::time::sleep(FINISH_AGAIN_AFTER).await;
        }
        batch.clear();
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
