//! Submits of one shard that come at the same time are committed together: what arrives while a transaction
//! runs waits for the next one, which takes all of it. Nobody waits when nothing runs.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tsp_core::{ShardId, Timestamp};
use tsp_store::error::{Result, StoreError};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Submit, SubmitOutcome};

use crate::connection::bind::weight;
use crate::connection::statement_templates::ROWS_MAX;
use crate::context::StoreContext;
use crate::tasks::idempotency::{self, LookupResult, is_repeated_key};
use crate::tasks::submit::{Item, ItemResult, submit_group};

/// A transaction takes about this much.
const ITEMS_MAX: usize = 2 * ROWS_MAX;
const BYTES_MAX: usize = 8 << 20;

/// What was done with each item of a job, and the items: some are submitted again.
type Answer = Result<Vec<(Item, ItemResult)>>;

/// Items of one call that are on one shard.
struct Job {
    items: Vec<Item>,
    bytes: usize,
    caller: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct SubmitQueue {
    jobs: VecDeque<Job>,
    /// Somebody takes the jobs until there are none.
    served: bool,
}

/// What waits, by shard.
pub(crate) struct SubmitGroups {
    context: Arc<StoreContext>,
    waiting: Vec<Mutex<SubmitQueue>>,
    serving: Mutex<JoinSet<()>>,
}

impl fmt::Debug for SubmitGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitGroups").finish_non_exhaustive()
    }
}

impl SubmitGroups {
    pub(crate) fn new(context: Arc<StoreContext>) -> Self {
        let waiting = std::iter::repeat_with(Mutex::default).take(usize::from(context.shards)).collect();
        Self { context, waiting, serving: Mutex::default() }
    }

    fn of(&self, shard: ShardId) -> Result<&Mutex<SubmitQueue>> {
        let found = self.waiting.get(usize::from(shard.get()));
        found.ok_or_else(|| StoreError::Internal(format!("there is no shard {}", shard.get())))
    }

    /// The next jobs that fit into one transaction. None: whoever comes next starts a new server.
    fn take(&self, shard: ShardId) -> Vec<Job> {
        let Ok(waiting) = self.of(shard) else { return Vec::new() };
        let mut waiting = waiting.lock();
        let (mut items, mut bytes) = (0, 0);
        let fitting = waiting.jobs.iter().take_while(|job| {
            items += job.items.len();
            bytes += job.bytes;
            items <= ITEMS_MAX && bytes <= BYTES_MAX
        });
        let fitting = fitting.count().max(1).min(waiting.jobs.len());
        waiting.served = fitting > 0;
        waiting.jobs.drain(..fitting).collect()
    }

    pub(crate) async fn submit(
        self: &Arc<Self>,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        let mut answers: Vec<Option<IdempotencyResult<SubmitOutcome>>> = batch.iter().map(|_| None).collect();
        let mut left: Vec<IndexedItem> =
            batch.into_iter().map(|submit| Item::new(submit, now)).enumerate().collect();
        let mut failed = None;
        while failed.is_none() && !left.is_empty() {
            // A repeated key is answered the second time with the answer of the first.
            let mut seen = HashSet::new();
            let (later, now): (Vec<IndexedItem>, Vec<IndexedItem>) =
                left.into_iter().partition(|(_, item)| is_repeated_key(&mut seen, item.idempotency.as_ref()));
            left = later;
            let (cross_database, same_database) =
                now.into_iter().partition(|(_, item)| is_cross_database(&self.context, item));
            let (cross_database, same_database) = futures::join!(
                self.submit_cross_database(cross_database),
                self.submit_same_database(same_database)
            );
            for step in cross_database.into_iter().chain(same_database) {
                match step {
                    Step::Done(at, answer) => answers[at] = Some(answer),
                    Step::Later(placed) => left.push(placed),
                    Step::Failed(error) => failed = Some(error),
                }
            }
            left.sort_by_key(|(at, _)| *at);
        }
        match failed {
            None => Ok(answers.into_iter().flatten().collect()),
            Some(error) if answers.iter().all(Option::is_none) => Err(error),
            Some(error) => Err(StoreError::Unknown(format!("a part of the batch was saved: {error}"))),
        }
    }

    /// Each with one transaction for itself and its answer, all shards at once.
    async fn submit_same_database(self: &Arc<Self>, items: Vec<IndexedItem>) -> Vec<Step> {
        let mut by_shard: BTreeMap<ShardId, Vec<IndexedItem>> = BTreeMap::new();
        for placed in items {
            by_shard.entry(placed.1.task.id.shard()).or_default().push(placed);
        }
        let jobs = by_shard.into_iter().flat_map(|(shard, items)| jobs(items).map(move |job| (shard, job)));
        let steps = jobs.map(|(shard, job)| async move {
            let (indexes, items): (Vec<usize>, Vec<Item>) = job.into_iter().unzip();
            let done = match self.add(shard, items) {
                Ok(answer) => received(answer).await,
                Err(error) => Err(error),
            };
            let Ok(done) = done else { return done.err().map(Step::Failed).into_iter().collect() };
            let mut steps = Vec::with_capacity(indexes.len());
            for (at, (item, taken)) in indexes.into_iter().zip(done) {
                steps.push(match taken {
                    ItemResult::Done(answer) => Step::Done(at, answer),
                    ItemResult::Later => Step::Later((at, item)),
                    ItemResult::Started => self.submit_in_three_phases(at, item).await,
                    ItemResult::Failed(error) => Step::Failed(error),
                });
            }
            steps
        });
        join_all(steps.collect::<Vec<_>>()).await.into_iter().flatten().collect()
    }

    async fn submit_cross_database(self: &Arc<Self>, items: Vec<IndexedItem>) -> Vec<Step> {
        join_all(items.into_iter().map(|(at, item)| self.submit_in_three_phases(at, item))).await
    }

    /// The key, the task, the answer: three transactions, of which each repeat goes on where the last stopped.
    async fn submit_in_three_phases(self: &Arc<Self>, at: usize, mut item: Item) -> Step {
        let Some(mut idempotency) = item.idempotency.take() else {
            return Step::Failed(StoreError::Internal("nothing is to be kept".to_owned()));
        };
        match idempotency::reserve(&self.context, idempotency.key, item.task.id, item.now).await {
            Ok(LookupResult::New) => {}
            Ok(LookupResult::Started(id)) => {
                item.task.id = id;
                item.promised = true;
            }
            Ok(LookupResult::Stored(answer)) => return Step::Done(at, answer),
            Err(error) => return Step::Failed(error),
        }
        let id = item.task.id;
        let done = match self.add(id.shard(), vec![item]) {
            Ok(answer) => received(answer).await,
            Err(error) => Err(error),
        };
        match done.map(|mut done| done.pop()) {
            Ok(Some((_, ItemResult::Done(IdempotencyResult::Fresh(submitted))))) => {
                idempotency::finalise(&self.context, &mut idempotency, id, &submitted).await;
                Step::Done(at, IdempotencyResult::Fresh(submitted))
            }
            Ok(Some((_, ItemResult::Failed(error)))) | Err(error) => Step::Failed(error),
            Ok(_) => Step::Failed(StoreError::Internal(format!("submit of task {id} has no answer"))),
        }
    }

    /// Hands items over to the next transaction of their shard.
    fn add(self: &Arc<Self>, shard: ShardId, items: Vec<Item>) -> Result<oneshot::Receiver<Answer>> {
        let (caller, answer) = oneshot::channel();
        let bytes = items.iter().map(|item| weight(&item.task)).sum();
        let mut waiting = self.of(shard)?.lock();
        waiting.jobs.push_back(Job { items, bytes, caller });
        if !std::mem::replace(&mut waiting.served, true) {
            drop(waiting);
            let mut serving = self.serving.lock();
            while serving.try_join_next().is_some() {}
            serving.spawn(self.clone().serve(shard));
        }
        Ok(answer)
    }

    /// How many items wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self, shard: ShardId) -> usize {
        self.of(shard).map_or(0, |waiting| waiting.lock().jobs.iter().map(|job| job.items.len()).sum())
    }

    async fn serve(self: Arc<Self>, shard: ShardId) {
        let _guard = ServingGuard { submits: &self, shard };
        loop {
            let jobs = self.take(shard);
            if jobs.is_empty() {
                return;
            }
            self.work(shard, jobs).await;
        }
    }

    /// What fails with others is tried alone, so that nobody fails for his neighbours.
    async fn work(&self, shard: ShardId, mut jobs: Vec<Job>) {
        let sizes: Vec<usize> = jobs.iter().map(|job| job.items.len()).collect();
        let items = jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.items)).collect();
        let (items, done) = transact(&self.context, shard, items).await;
        let mut items = items.into_iter();
        match done {
            Ok(taken) => {
                let mut answers = items.zip(taken);
                for (job, size) in jobs.into_iter().zip(sizes) {
                    let _ = job.caller.send(Ok(answers.by_ref().take(size).collect()));
                }
            }
            Err(StoreError::Internal(_) | StoreError::Corrupt { .. }) if sizes.len() > 1 => {
                for (job, size) in jobs.into_iter().zip(sizes) {
                    let (items, done) =
                        transact(&self.context, shard, items.by_ref().take(size).collect()).await;
                    let _ = job.caller.send(done.map(|taken| items.into_iter().zip(taken).collect()));
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.caller.send(Err(error.clone()));
                }
            }
        }
    }
}

/// An item and where its answer goes.
type IndexedItem = (usize, Item);

enum Step {
    Done(usize, IdempotencyResult<SubmitOutcome>),
    /// Comes again when the others are done.
    Later(IndexedItem),
    Failed(StoreError),
}

/// Who serves and panics stops serving, or nobody would ever be served again.
struct ServingGuard<'s> {
    submits: &'s SubmitGroups,
    shard: ShardId,
}

impl Drop for ServingGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(waiting) = self.submits.of(self.shard)
        {
            *waiting.lock() = SubmitQueue::default();
        }
    }
}

async fn transact(
    context: &StoreContext,
    shard: ShardId,
    items: Vec<Item>,
) -> (Vec<Item>, Result<Vec<ItemResult>>) {
    let items = tokio::sync::Mutex::new(items);
    let done = match context.shard(shard) {
        Ok(on) => submit_group(context, &on, &items).await,
        Err(error) => Err(error),
    };
    (items.into_inner(), done)
}

/// Whether the record of the item's idempotency key is on another data source than the task.
fn is_cross_database(context: &StoreContext, item: &Item) -> bool {
    let Some(idempotency) = &item.idempotency else { return false };
    match (context.shard_of(item.task.id), context.shard(idempotency.key.shard(context.shards))) {
        (Ok(task), Ok(record)) => !task.db.is(&record.db),
        _ => false,
    }
}

/// Items in jobs that fit into a transaction.
fn jobs(items: Vec<IndexedItem>) -> impl Iterator<Item = Vec<IndexedItem>> {
    let mut left = items.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut job = Vec::new();
        let mut bytes = 0;
        while let Some((_, item)) = left.peek() {
            bytes += weight(&item.task);
            if !job.is_empty() && (job.len() >= ROWS_MAX || bytes > BYTES_MAX) {
                break;
            }
            job.extend(left.next());
        }
        (!job.is_empty()).then_some(job)
    })
}

async fn received(answer: oneshot::Receiver<Answer>) -> Answer {
    // Its server was dropped with the store or has panicked; nobody knows how far it came.
    answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("a submit was dropped on its way".to_owned())))
}
