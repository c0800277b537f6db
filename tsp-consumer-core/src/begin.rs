//! The loop that takes messages and begins them: each bulkhead by itself, so that one that stands still holds
//! up no other.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tsp_core::work::WorkError;
use tsp_core::{ConfigId, Millis, Timestamp};

use crate::compartment::Compartment;
use crate::finish::StuckCounts;
use crate::intake::Item;
use crate::permits::Permits;
use crate::pipeline::{BeginReport, BegunAttempt, LoadResult, Pipeline};
use crate::worker::WorkerOptions;

/// Bulkheads that stand still hold at most this share of the permits' number: messages, and outcomes.
const STILL_SHARE: usize = 4;
/// After messages of such a one were requeued: a queue may hand them out again at once.
const REQUEUED_PAUSE: Duration = Duration::from_millis(1);

pub(crate) struct BeginLoop {
    pipeline: Arc<Pipeline>,
    permits: Arc<Permits>,
    options: WorkerOptions,
    stuck: Arc<StuckCounts>,
    compartments: Vec<Compartment>,
    steps: FuturesUnordered<BoxFuture<'static, Step>>,
    /// Permits inside begins that are not answered.
    in_begins: usize,
    /// The bulkhead that is served first.
    turn: usize,
}

/// A call that was answered.
enum Step {
    Loaded(usize, LoadResult),
    Begun(usize, usize, BeginReport),
    Compared(Result<usize, WorkError>, usize),
}

impl BeginLoop {
    pub(crate) fn new(
        pipeline: Arc<Pipeline>,
        permits: Arc<Permits>,
        options: WorkerOptions,
        stuck: Arc<StuckCounts>,
    ) -> Self {
        let compartments = (0..pipeline.bulkheads()).map(|_| Compartment::new(options.batch)).collect();
        Self {
            pipeline,
            permits,
            options,
            stuck,
            compartments,
            steps: FuturesUnordered::new(),
            in_begins: 0,
            turn: 0,
        }
    }

    /// One round: takes what came, starts what may be begun, and waits for whatever happens next. What is begun
    /// goes to `run`.
    pub(crate) async fn round(
        &mut self,
        freed: &mut watch::Receiver<()>,
        stop: &CancellationToken,
        run: &impl Fn(BegunAttempt),
    ) {
        let now = self.pipeline.deps.clock.now();
        let requeued = self.take(now);
        self.start(now);
        if let Some(step) = self.wait(now, requeued, freed, stop).await {
            self.answered(step, run);
            while let Some(Some(step)) = self.steps.next().now_or_never() {
                self.answered(step, run);
            }
        }
    }

    /// Sorts messages into their compartments, as long as permits are free. Whether it had to requeue some.
    fn take(&mut self, now: Timestamp) -> bool {
        for at in 0..self.compartments.len() {
            let bulkhead = (self.turn + at) % self.compartments.len();
            if self.may_begin_more(bulkhead) {
                let share = self.share();
                self.compartments[bulkhead].pick(&self.permits, share, now);
            }
        }
        self.turn = (self.turn + 1) % self.compartments.len();
        while self.wants_more(now) {
            let most = self.options.batch - self.ready();
            let (items, bare) = self.pipeline.take(most.min(self.permits.free()));
            if items.is_empty() && bare.is_empty() {
                return false;
            }
            let (mut back_bare, mut back) = (Vec::new(), Vec::new());
            for delivery in bare {
                let bulkhead = self.pipeline.bulkhead(delivery.message.id);
                if self.is_full(bulkhead, now) {
                    back_bare.push(delivery);
                } else {
                    self.compartments[bulkhead].put_bare(delivery);
                }
            }
            for item in items {
                let bulkhead = self.pipeline.bulkhead(item.id);
                if self.is_full(bulkhead, now) { back.push(item) } else { self.offer(bulkhead, item, now) }
            }
            if !(back_bare.is_empty() && back.is_empty()) {
                self.pipeline.requeue(back_bare, back);
                return true;
            }
        }
        false
    }

    fn offer(&mut self, bulkhead: usize, item: Item, now: Timestamp) {
        let share = if self.may_begin_more(bulkhead) { self.share() } else { 0 };
        self.compartments[bulkhead].offer(&self.permits, share, item, now);
    }

    fn ready(&self) -> usize {
        self.compartments.iter().map(Compartment::ready).sum()
    }

    /// The most messages in the next begin.
    fn share(&self) -> usize {
        share(&self.options, self.compartments.len(), self.in_begins)
    }

    fn wants_more(&self, now: Timestamp) -> bool {
        // With one bulkhead messages wait in the queue while it is busy, and batches make themselves.
        let busy = matches!(&self.compartments[..], [only] if only.is_beginning() || self.is_full(0, now));
        !busy && self.permits.free() > 0 && self.ready() < self.options.batch
    }

    /// Whether a permit that is released changes anything: most of the time there are enough, and a bulkhead inside a
    /// begin takes none before that is answered. At a high load who is woken for each one does little else.
    fn wants_permit(&self) -> bool {
        let mut idle = self.compartments.iter().filter(|compartment| !compartment.is_beginning());
        match self.permits.free() {
            0 => idle.next().is_some(),
            _ => idle.any(|compartment| !compartment.intake.is_empty()),
        }
    }

    /// A bulkhead that stands still holds so many messages and no more, or it would in the end hold all that
    /// may be in flight.
    fn is_full(&self, bulkhead: usize, now: Timestamp) -> bool {
        let still = |compartment: &&Compartment| compartment.stands_still(now);
        if !self.compartments[bulkhead].stands_still(now) {
            return false;
        }
        let still_ones = self.compartments.iter().filter(still).count().max(1);
        self.compartments[bulkhead].held() >= (self.options.concurrency / STILL_SHARE / still_ones).max(1)
    }

    /// Outcomes that cannot be saved keep their messages: no more of these.
    fn may_begin_more(&self, bulkhead: usize) -> bool {
        self.compartments.len() == 1
            || self.stuck.of(bulkhead) < (self.options.concurrency / STILL_SHARE).max(1)
    }

    fn start(&mut self, now: Timestamp) {
        let compare_at = self.pipeline.reconcile_at_of_bulkheads();
        for (bulkhead, compare_at) in compare_at.into_iter().enumerate() {
            let compartment = &mut self.compartments[bulkhead];
            if !compartment.reconciling && compare_at.is_some_and(|at| at <= now) {
                compartment.reconciling = true;
                let pipeline = self.pipeline.clone();
                self.steps.push(Box::pin(async move {
                    Step::Compared(pipeline.reconcile_bulkhead(bulkhead, now).await, bulkhead)
                }));
            }
            if let Some(bare) = compartment.next_load(now) {
                let pipeline = self.pipeline.clone();
                self.steps.push(Box::pin(async move { Step::Loaded(bulkhead, pipeline.load(bare).await) }));
            }
            if let Some(batch) = compartment.next_begin(now) {
                let (pipeline, permits) = (self.pipeline.clone(), batch.len());
                self.in_begins += permits;
                self.steps.push(Box::pin(async move {
                    Step::Begun(bulkhead, permits, pipeline.begin(batch, now).await)
                }));
            }
        }
    }

    async fn wait(
        &mut self,
        now: Timestamp,
        requeued: bool,
        freed: &mut watch::Receiver<()>,
        stop: &CancellationToken,
    ) -> Option<Step> {
        let next_at = self.next_at(now);
        let (wants_more, wants_permit) = (self.wants_more(now), self.wants_permit());
        let timer = async {
            match next_at {
                Some(at) => tokio::time::sleep(at.since(now).max(Millis::from_ms(1)).to_std()).await,
                None => std::future::pending().await,
            }
        };
        let subscriber = &self.pipeline.deps.subscriber;
        let ready = async {
            if requeued {
                tokio::time::sleep(REQUEUED_PAUSE).await;
            }
            subscriber.ready().await;
        };
        // In a fixed order, so that one seed gives one history. None starves: each round takes what there is.
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            Some(step) = self.steps.next(), if !self.steps.is_empty() => Some(step),
            () = ready, if wants_more => None,
            _ = freed.changed(), if wants_permit => None,
            () = timer => None,
        }
    }

    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let compare = self.pipeline.reconcile_at_of_bulkheads().into_iter().zip(&self.compartments);
        let compare = compare.filter_map(|(at, compartment)| at.filter(|_| !compartment.reconciling));
        let begins = self.compartments.iter().enumerate();
        let begins = begins.filter_map(|(bulkhead, held)| held.next_at(self.may_begin_more(bulkhead), now));
        begins.chain(compare).min()
    }

    fn answered(&mut self, step: Step, run: &impl Fn(BegunAttempt)) {
        let now = self.pipeline.deps.clock.now();
        match step {
            Step::Compared(result, bulkhead) => {
                self.compartments[bulkhead].reconciling = false;
                if let Err(error) = result {
                    tracing::warn!(%error, "could not compare what runs with the rows, will try again");
                }
            }
            Step::Loaded(bulkhead, loaded) => {
                self.compartments[bulkhead].loaded(loaded.error.is_some(), now);
                for item in loaded.items {
                    self.offer(bulkhead, item, now);
                }
            }
            Step::Begun(bulkhead, permits, report) => {
                self.in_begins -= permits;
                self.compartments[bulkhead].begun(report.error.is_some(), now);
                for (at, item) in report.again {
                    self.permits.put_back(item.config);
                    self.compartments[bulkhead].intake.put_early(at, item);
                }
                report.dropped.into_iter().for_each(|config: ConfigId| self.permits.put_back(config));
                report.started.into_iter().for_each(run);
            }
        }
    }

    /// Hands back what is not begun, and waits for the calls in flight. What they still begin goes to `run`.
    pub(crate) async fn stop(mut self, run: &impl Fn(BegunAttempt)) {
        let (mut items, mut bare) = self.drain();
        loop {
            let (more, more_bare) = self.pipeline.take(self.options.batch);
            if more.is_empty() && more_bare.is_empty() {
                break;
            }
            items.extend(more);
            bare.extend(more_bare);
        }
        let pipeline = self.pipeline.clone();
        let back = async move {
            let loaded = pipeline.load_all(bare).await;
            items.extend(loaded);
            if !items.is_empty() {
                pipeline.hand_back(items, pipeline.deps.clock.now()).await;
            }
        };
        let calls = async {
            while let Some(step) = self.steps.next().await {
                self.answered(step, run);
            }
            let (items, bare) = self.drain();
            self.pipeline.requeue(bare, Vec::new());
            if !items.is_empty() {
                self.pipeline.hand_back(items, self.pipeline.deps.clock.now()).await;
            }
        };
        tokio::join!(back, calls);
    }

    fn drain(&mut self) -> (Vec<Item>, Vec<tsp_queue::Delivery>) {
        let permits = &self.permits;
        let (items, bare): (Vec<_>, Vec<_>) =
            self.compartments.iter_mut().map(|compartment| compartment.drain(permits)).unzip();
        (items.into_iter().flatten().collect(), bare.into_iter().flatten().collect())
    }
}

/// Half of what is left, so that something is left for every other bulkhead. All begins in flight hold at most two
/// batches and half of the permits: two bulkheads begin two thirds of a batch each then, and not a third, which would
/// take twice the statements.
fn share(options: &WorkerOptions, bulkheads: usize, in_begins: usize) -> usize {
    let WorkerOptions { batch, concurrency, .. } = *options;
    if bulkheads == 1 {
        return batch;
    }
    let most = (2 * batch).min(concurrency / 2).max(batch);
    most.saturating_sub(in_begins).div_ceil(2).min(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulkheads_share_two_batches_and_half_of_the_permits_and_leave_something_for_the_next() {
        let options = |concurrency| WorkerOptions { batch: 256, concurrency, ..WorkerOptions::default() };
        assert_eq!(share(&options(1_024), 1, 0), 256);
        let shares = |concurrency| {
            let next = |held: &mut usize| {
                let share = share(&options(concurrency), 16, *held);
                *held += share;
                Some(share)
            };
            std::iter::repeat_n((), 5).scan(0, move |held, ()| next(held)).collect::<Vec<_>>()
        };
        assert_eq!(shares(1_024), [256, 128, 64, 32, 16]);
        assert_eq!(shares(640), [160, 80, 40, 20, 10]);
        assert_eq!(shares(1), [128, 64, 32, 16, 8]);
    }
}
