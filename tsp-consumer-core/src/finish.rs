//! The loop that saves outcomes: each bulkhead by itself, so that one that stands still holds up no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::permits::Permits;
use crate::pipeline::{EndedAttempt, Pipeline, SaveFailure};
use crate::unsaved::{SaveBatch, UnsavedAttempts};
use crate::worker::WorkerOptions;

/// Above this many waiting outcomes none waits any longer: at high load the batches make themselves.
const FINISH_AT_ONCE: usize = 32;
/// How long saves in flight may still take after the last call.
const LAST_SAVES: Duration = Duration::from_secs(5);

/// How many outcomes of each bulkhead cannot be saved just now.
#[derive(Debug)]
pub(crate) struct StuckCounts(Box<[AtomicUsize]>);

impl StuckCounts {
    pub(crate) fn new(bulkheads: usize) -> Self {
        Self((0..bulkheads).map(|_| AtomicUsize::new(0)).collect())
    }

    pub(crate) fn of(&self, bulkhead: usize) -> usize {
        self.0.get(bulkhead).map_or(0, |stuck| stuck.load(Ordering::Relaxed))
    }
}

pub(crate) struct FinishLoop {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) options: WorkerOptions,
    pub(crate) permits: Arc<Permits>,
    pub(crate) stuck: Arc<StuckCounts>,
    /// From now on nothing more comes in, and what cannot be saved is left to the rescuer.
    pub(crate) last_call: CancellationToken,
}

struct SaveResult {
    bulkhead: usize,
    tried: SaveBatch,
    failures: Vec<SaveFailure>,
}

impl FinishLoop {
    pub(crate) async fn run(self, mut inbox: mpsc::UnboundedReceiver<EndedAttempt>) {
        let mut unsaved: Vec<UnsavedAttempts> =
            (0..self.pipeline.bulkheads()).map(|_| UnsavedAttempts::default()).collect();
        let mut saving: FuturesUnordered<BoxFuture<'static, SaveResult>> = FuturesUnordered::new();
        let (mut arrived, mut last_until, mut known) = (Vec::new(), None, 0);
        loop {
            let now = Instant::now();
            self.save(&mut unsaved, &saving, now);
            known = self.publish(&unsaved, known, now);
            let over = inbox.is_closed() && inbox.is_empty();
            if over && unsaved.iter().all(UnsavedAttempts::is_empty) {
                return;
            }
            let wait = self.options.finish_wait;
            // While every bulkhead saves, what comes in waits where it is: to be woken for each outcome is dear.
            let takes_more = !over && unsaved.iter().any(|one| one.takes_more(now));
            let next = unsaved.iter().filter_map(|one| one.next_at(wait, now)).chain(last_until).min();
            // In a fixed order, so that one seed gives one history. None starves: what was saved is less than what
            // came in, and what waits is looked at in each round.
            tokio::select! {
                biased;
                () = self.last_call.cancelled(), if last_until.is_none() => {
                    inbox.close();
                    last_until = Some(Instant::now() + LAST_SAVES);
                    for one in &mut unsaved {
                        one.last_call(Instant::now());
                    }
                }
                Some(saved) = saving.next(), if !saving.is_empty() => {
                    answered(&mut unsaved, saved, last_until.is_some());
                }
                received = inbox.recv_many(&mut arrived, self.options.batch), if takes_more => {
                    let now = Instant::now();
                    for executed in arrived.drain(..received) {
                        unsaved[self.pipeline.bulkhead(executed.task.id)].push(executed, now);
                    }
                }
                () = sleep_until(next) => {}
            }
            if last_until.is_some_and(|until| until <= Instant::now()) {
                tracing::warn!(
                    saves = saving.len(),
                    "saves in flight are abandoned; their tasks will be retried"
                );
                return;
            }
        }
    }

    /// Starts what may be saved now.
    fn save(
        &self,
        unsaved: &mut [UnsavedAttempts],
        saving: &FuturesUnordered<BoxFuture<'static, SaveResult>>,
        now: Instant,
    ) {
        let wait = self.options.finish_wait;
        let enough = unsaved.iter().map(UnsavedAttempts::fresh).sum::<usize>() >= FINISH_AT_ONCE
            || self.last_call.is_cancelled();
        for (bulkhead, one) in unsaved.iter_mut().enumerate() {
            let Some(batch) = one.next(now, wait, enough, self.options.batch) else { continue };
            let (pipeline, tried) = (self.pipeline.clone(), batch.tried());
            saving.push(Box::pin(async move {
                let failures = pipeline.finish(batch.outcomes, pipeline.deps.clock.now()).await;
                SaveResult { bulkhead, tried, failures }
            }));
        }
    }

    /// Reports what cannot be saved just now, of which `known` is reported already.
    fn publish(&self, unsaved: &[UnsavedAttempts], known: usize, now: Instant) -> usize {
        let mut all = 0;
        for (one, published) in unsaved.iter().zip(&self.stuck.0) {
            let stuck = one.stuck(now);
            all += stuck;
            if published.swap(stuck, Ordering::Relaxed) > stuck {
                self.permits.wake();
            }
        }
        self.pipeline.observer.unsaved(known, all);
        all
    }
}

fn answered(unsaved: &mut [UnsavedAttempts], saved: SaveResult, last: bool) {
    let SaveResult { bulkhead, tried, mut failures } = saved;
    if last && !failures.is_empty() {
        let outcomes = failures.len();
        tracing::warn!(outcomes, "outcomes could not be saved; their tasks will be retried");
        failures.clear();
    }
    unsaved[bulkhead].answered(&tried, failures, Instant::now());
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
