//! The loops around the pipeline: one begins, one finishes, and each attempt runs beside them.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::outcome::Verdict;

use crate::begin::BeginLoop;
use crate::finish::{FinishLoop, StuckCounts};
use crate::handler::TaskHandler;
use crate::permits::Permits;
use crate::pipeline::{BegunAttempt, EndedAttempt, Pipeline};

#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Attempts running at once.
    pub concurrency: usize,
    /// Of these, at most so many of one config.
    pub per_config: usize,
    /// Rows in one begin or finish.
    pub batch: usize,
    /// How long an outcome may wait for others at low load. The row is executing meanwhile, so waiting is
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
    permits: Arc<Permits>,
    options: WorkerOptions,
}

impl Worker {
    pub fn new(pipeline: Pipeline, handler: Arc<dyn TaskHandler>, options: WorkerOptions) -> Self {
        let permits = Arc::new(Permits::new(options.concurrency, options.per_config));
        Self { pipeline: Arc::new(pipeline), handler, permits, options }
    }

    /// Another one on the same permits: what holds up the pipeline of one of them holds up no other.
    #[must_use]
    pub fn beside(&self, pipeline: Pipeline) -> Self {
        Self {
            pipeline: Arc::new(pipeline),
            handler: self.handler.clone(),
            permits: self.permits.clone(),
            options: self.options.clone(),
        }
    }

    /// Runs until `stop`, then lets running attempts end (up to the grace) and hands the rest back.
    pub async fn run(self, stop: CancellationToken) {
        let (outcomes, inbox) = mpsc::unbounded_channel();
        let attempts = TaskTracker::new();
        let (finishing, last_call) = (TaskTracker::new(), CancellationToken::new());
        let stuck = Arc::new(StuckCounts::new(self.pipeline.bulkheads()));
        let finish = FinishLoop {
            pipeline: self.pipeline.clone(),
            options: self.options.clone(),
            permits: self.permits.clone(),
            stuck: stuck.clone(),
            last_call: last_call.clone(),
        };
        finishing.spawn(finish.run(inbox));
        finishing.close();

        let run = {
            let (pipeline, handler, permits) =
                (self.pipeline.clone(), self.handler.clone(), self.permits.clone());
            let attempts = attempts.clone();
            move |started| {
                let (pipeline, handler, permits) = (pipeline.clone(), handler.clone(), permits.clone());
                attempts.spawn(attempt(pipeline, handler, permits, started, outcomes.clone()));
            }
        };
        let mut begins = BeginLoop::new(self.pipeline, self.permits.clone(), self.options.clone(), stuck);
        let mut freed = self.permits.freed();
        while !stop.is_cancelled() {
            begins.round(&mut freed, &stop, &run).await;
        }
        let all = async {
            begins.stop(&run).await;
            // The finish loop ends when it has saved what the last attempt sent.
            drop(run);
            attempts.close();
            attempts.wait().await;
            finishing.wait().await;
        };
        if tokio::time::timeout(self.options.shutdown_grace, all).await.is_err() {
            let running = attempts.len();
            tracing::warn!(
                running,
                "the grace period has ended; what still runs or is not saved will be retried"
            );
            last_call.cancel();
        }
        finishing.wait().await;
    }
}

async fn attempt(
    pipeline: Arc<Pipeline>,
    handler: Arc<dyn TaskHandler>,
    permits: Arc<Permits>,
    started: BegunAttempt,
    outcomes: mpsc::UnboundedSender<EndedAttempt>,
) {
    let BegunAttempt { mut context, ticket } = started;
    context.now = pipeline.deps.clock.now();
    pipeline.observer.sent(&context.task, &context.config, context.now);
    let verdict = unwound(handler.execute(&context)).await.unwrap_or_else(|| {
        tracing::error!(task = %context.task.id, "the handler panicked");
        Verdict::retry("handler_panicked")
    });
    let config = context.task.config;
    // A closed channel means that the worker stopped without us; the rescuer closes the attempt.
    let _ = outcomes.send(EndedAttempt {
        ended_at: pipeline.deps.clock.now(),
        task: context.task,
        ticket,
        verdict,
    });
    permits.put_back(config);
}

/// `None` when it panicked: a handler's panic is an outcome like any other, and neither keeps its permit
/// nor leaves its row behind.
async fn unwound<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}
