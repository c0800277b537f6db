//! The two batched steps of a worker. They take `now` and start nothing, so a simulation drives them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use sha2::{Digest, Sha256};
use tsp_core::outcome::Verdict;
use tsp_core::task::{Status, Task, TokenHash};
use tsp_core::work::{
    AttemptStore, BeginRequest, BeginResult, Configs, Finish, FinishResult, SendLease, WorkError,
};
use tsp_core::{Clock, ConfigId, Entropy, Millis, NodeId, TaskId, Timestamp};
use tsp_queue::{Delivery, Feedback, FeedbackSink, Message, Subscriber, Ticket};

use crate::handler::{Fence, TaskContext};
use crate::intake::Item;
use crate::observe::Observer;
use crate::running::RunningAttempts;

/// How soon a begin without an answer is tried again; doubled with each more.
const BEGIN_AGAIN_AFTER: Millis = Millis::from_ms(200);
const BEGIN_AGAIN_DOUBLED_MAX: u32 = 7;

/// What a pipeline works with.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "handles only")]
pub struct PipelineDependencies {
    pub store: Arc<dyn AttemptStore>,
    /// Under which it begins.
    pub node: NodeId,
    pub lease: Arc<dyn SendLease>,
    pub configs: Arc<dyn Configs>,
    pub subscriber: Arc<dyn Subscriber>,
    pub feedback: Arc<dyn FeedbackSink>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// begin and finish, with acknowledgement and feedback behind them.
pub struct Pipeline {
    pub(crate) deps: PipelineDependencies,
    pub(crate) observer: Observer,
    running: RunningAttempts,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("node", &self.deps.node).finish_non_exhaustive()
    }
}

/// An attempt that is begun and to be run.
#[derive(Debug)]
pub struct BegunAttempt {
    pub context: TaskContext,
    pub ticket: Ticket,
}

/// An attempt that has run.
#[derive(Debug)]
pub struct EndedAttempt {
    /// When the handler answered.
    pub ended_at: Timestamp,
    pub task: Box<Task>,
    pub ticket: Ticket,
    pub verdict: Verdict,
}

/// An outcome that could not be saved. Nothing was acknowledged: save it again.
#[derive(Debug)]
pub struct SaveFailure {
    pub executed: EndedAttempt,
    pub error: WorkError,
}

/// Messages whose rows were asked for.
#[derive(Debug, Default)]
pub struct LoadResult {
    pub items: Vec<Item>,
    /// Why some are not here. They were requeued.
    pub error: Option<WorkError>,
}

/// What became of a batch of messages.
#[derive(Debug, Default)]
pub struct BeginReport {
    /// Why some of those to be asked for again were not begun, if it was not for their time.
    pub error: Option<WorkError>,
    pub started: Vec<BegunAttempt>,
    /// Not yet: ask again then. Their permits are to be released.
    pub again: Vec<(Timestamp, Item)>,
    /// Dealt with without a call. Their permits are to be released.
    pub dropped: Vec<ConfigId>,
}

impl Pipeline {
    pub fn new(deps: PipelineDependencies) -> Self {
        let running = RunningAttempts::new(deps.store.bulkheads());
        Self { deps, observer: Observer::default(), running }
    }

    /// How many bulkheads the rows have: parts that may stand still without the others.
    pub fn bulkheads(&self) -> usize {
        self.deps.store.bulkheads()
    }

    /// The bulkhead of a task, below [`Pipeline::bulkheads`].
    pub fn bulkhead(&self, task: TaskId) -> usize {
        self.deps.store.bulkhead(task)
    }

    /// Takes up to `most` messages: those that brought their rows, and those whose rows are to be loaded.
    pub fn take(&self, most: usize) -> (Vec<Item>, Vec<Delivery>) {
        let (with_row, bare): (Vec<_>, Vec<_>) =
            self.deps.subscriber.take(most).into_iter().partition(|delivery| delivery.message.row.is_some());
        let known =
            |Delivery { message, ticket }| self.known(message.id, message.version, ticket, message.row);
        (with_row.into_iter().filter_map(known).collect(), bare)
    }

    /// Loads the rows of messages, and so finds the config of each. What cannot be loaded just now goes back
    /// to the queue; a row that cannot be read at all is logged, and is rescued like that of a lost message.
    pub async fn load(&self, bare: Vec<Delivery>) -> LoadResult {
        let ids: Vec<_> = bare.iter().map(|delivery| delivery.message.id).collect();
        let rows = self.deps.store.load(&ids).await;
        let (mut loaded, mut back) = (LoadResult::default(), Vec::new());
        for (delivery, row) in bare.into_iter().zip(rows) {
            match row {
                Ok(row) => {
                    let Message { id, version, .. } = delivery.message;
                    loaded.items.extend(self.known(id, version, delivery.ticket, row));
                }
                Err(error) if !error.is_transient() => {
                    tracing::error!(task = %delivery.message.id, %error, "the row of a message cannot be read");
                    self.deps.subscriber.ack(&[delivery.ticket]);
                }
                Err(error) => {
                    back.push(delivery);
                    loaded.error = Some(error);
                }
            }
        }
        if let Some(error) = &loaded.error {
            tracing::warn!(%error, messages = back.len(), "could not load the rows of messages");
            self.deps.subscriber.requeue(back);
        }
        loaded
    }

    /// Takes up to `most` messages and loads what they did not bring.
    pub async fn receive(&self, most: usize) -> Vec<Item> {
        let (mut items, bare) = self.take(most);
        items.extend(self.load_all(bare).await);
        items
    }

    /// As [`Pipeline::load`], of any bulkheads.
    pub(crate) async fn load_all(&self, bare: Vec<Delivery>) -> Vec<Item> {
        let batches = self.by_bulkhead(bare, |delivery| delivery.message.id).into_values();
        let loaded = join_all(batches.map(|batch| self.load(batch))).await;
        loaded.into_iter().flat_map(|loaded| loaded.items).collect()
    }

    /// Gives messages back to the queue as they came.
    pub fn requeue(&self, bare: Vec<Delivery>, items: Vec<Item>) {
        let messages = items.into_iter().map(|item| Delivery {
            message: Message { id: item.id, version: item.version, row: item.row },
            ticket: item.ticket,
        });
        self.deps.subscriber.requeue(bare.into_iter().chain(messages).collect());
    }

    /// `None` for a message whose row is gone or another one by now: it is stale.
    fn known(&self, id: TaskId, version: i64, ticket: Ticket, now: Option<Box<Task>>) -> Option<Item> {
        let is_current = |row: &Task| row.version == version && row.status == Status::Queued;
        let row = match now {
            Some(row) if is_current(&row) => row,
            now => {
                self.stale(id, version, ticket, now.as_deref());
                return None;
            }
        };
        Some(Item { id, version, config: row.config, ticket, row: Some(row), tries: 0 })
    }

    /// A message is thrown away, and its owner gets feedback, so that it takes up no room there. Of a row
    /// that is gone the config is not known.
    fn stale(&self, id: TaskId, version: i64, ticket: Ticket, now: Option<&Task>) {
        self.acknowledge(&[ticket], vec![feedback_of(id, now.map(|row| row.config), version, now)]);
    }

    fn by_bulkhead<T>(&self, batch: Vec<T>, id: impl Fn(&T) -> TaskId) -> BTreeMap<usize, Vec<T>> {
        let mut batches = BTreeMap::<usize, Vec<T>>::new();
        for item in batch {
            batches.entry(self.bulkhead(id(&item))).or_default().push(item);
        }
        batches
    }

    /// Begins a batch. Each message of it holds a permit.
    pub async fn begin(&self, items: Vec<Item>, now: Timestamp) -> BeginReport {
        let mut report = BeginReport::default();
        let (mut begins, mut kept, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for mut item in items {
            let (token, hash) = self.mint(&item).unzip();
            begins.push(BeginRequest {
                id: item.id,
                version: item.version,
                row: item.row.take(),
                token: hash,
            });
            tokens.push(token);
            kept.push(item);
        }
        self.observer.begin_batch(kept.len());
        let tasks = kept.iter().map(|item| (self.bulkhead(item.id), item.id)).collect();
        let beginning = self.running.begin(tasks, now);
        let answers = self.deps.store.begin(self.deps.node, begins, now).await;
        let may_send = self.deps.lease.may_send(self.deps.clock.now());
        let (mut done, mut feedback, mut not_sent) = (Vec::new(), Vec::new(), 0);
        for ((answer, mut item), token) in answers.into_iter().zip(kept).zip(tokens) {
            match answer {
                Ok(BeginResult::Run(task)) => {
                    if let Some(config) = self.deps.configs.config(task.config).filter(|_| may_send) {
                        let fence = Fence::new(Arc::clone(&self.deps.lease), Arc::clone(&self.deps.clock));
                        let context = TaskContext { task, config, completion_token: token, now, fence };
                        report.started.push(BegunAttempt { context, ticket: item.ticket });
                    } else {
                        // Nobody runs it: it is found under our id, an orphan, and released.
                        not_sent += 1;
                        self.running.unsure(self.bulkhead(item.id), now);
                        done.push(item.ticket);
                        report.dropped.push(item.config);
                    }
                }
                Ok(BeginResult::Wait(at)) => report.again.push((at, item)),
                Ok(BeginResult::Drop(row)) => {
                    done.push(item.ticket);
                    feedback.push(feedback_of_message(&item, row.as_deref()));
                    report.dropped.push(item.config);
                }
                Err(error) => {
                    // It may have happened: executing rows that nobody runs are to be found soon.
                    self.running.unsure(self.bulkhead(item.id), now);
                    let pause =
                        BEGIN_AGAIN_AFTER.saturating_mul(1 << item.tries.min(BEGIN_AGAIN_DOUBLED_MAX));
                    item.tries += 1;
                    report.again.push((now.plus(pause), item));
                    report.error = Some(error);
                }
            }
        }
        beginning.answered(report.started.iter().map(|started| {
            let task = &started.context.task;
            (task.id, task.attempt)
        }));
        if not_sent > 0 {
            tracing::warn!(
                not_sent,
                may_send,
                "tasks were begun and are not sent: the lease ended, or no config"
            );
        }
        if let Some(error) = &report.error {
            let task = report.again.first().map(|(_, item)| item.id.get());
            tracing::warn!(%error, task, messages = report.again.len(), "begin failed, will try again");
        }
        self.acknowledge(&done, feedback);
        report
    }

    /// Saves the outcomes. Those that are saved are acknowledged and announced; the others come back.
    pub async fn finish(&self, batch: Vec<EndedAttempt>, now: Timestamp) -> Vec<SaveFailure> {
        let finishes = batch.iter().map(|executed| Finish {
            id: executed.task.id,
            attempt: executed.task.attempt,
            verdict: executed.verdict.clone(),
            ended_at: Some(executed.ended_at),
            jitter_fraction: self.deps.entropy.jitter_fraction(),
            row: Some(executed.task.clone()),
        });
        let answers = self.deps.store.finish(self.deps.node, finishes.collect(), now).await;
        self.observer.finish_batch(batch.len());
        let alone = batch.len() == 1;
        let (mut failures, mut feedback, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        for (executed, answer) in batch.into_iter().zip(answers) {
            let row = match answer {
                Ok(FinishResult::Saved(row)) => {
                    self.observer.finished(&row, &executed.verdict);
                    Some(row)
                }
                Ok(FinishResult::TooLate) => None,
                Err(error) => {
                    failures.push(SaveFailure { executed, error });
                    continue;
                }
            };
            let mut one = feedback_of_row(&executed.task, row.as_deref());
            one.park = executed.verdict.park;
            feedback.push(one);
            tickets.push(executed.ticket);
            self.running.closed((executed.task.id, executed.task.attempt));
        }
        self.acknowledge(&tickets, feedback);
        self.say(&failures, alone);
        failures
    }

    fn say(&self, failures: &[SaveFailure], alone: bool) {
        let Some(SaveFailure { executed, error }) = failures.first() else { return };
        let outcomes = failures.len();
        if !alone || error.is_transient() {
            tracing::warn!(%error, outcomes, "could not save outcomes, will try again");
            return;
        }
        self.observer.refused();
        let EndedAttempt { task, verdict, .. } = executed;
        let (attempt, outcome, reason) = (task.attempt, &verdict.outcome, &*verdict.reason);
        tracing::error!(task = %task.id, attempt, ?outcome, reason, %error, "an outcome is refused, will try again");
    }

    /// Gives back the attempts under our name that we do not run: begins whose answer was lost.
    pub async fn reconcile(&self, now: Timestamp) -> Result<usize, WorkError> {
        let batches = (0..self.bulkheads()).map(|bulkhead| self.reconcile_bulkhead(bulkhead, now));
        let given_back: Result<Vec<usize>, _> = join_all(batches).await.into_iter().collect();
        Ok(given_back?.into_iter().sum())
    }

    /// The same for one bulkhead.
    pub async fn reconcile_bulkhead(&self, bulkhead: usize, now: Timestamp) -> Result<usize, WorkError> {
        if !self.running.start_reconcile(bulkhead, now) {
            return Ok(0);
        }
        let again = |_: &WorkError| self.running.reconcile_again(bulkhead, now);
        let rows = self.deps.store.executing(self.deps.node, bulkhead).await.inspect_err(again)?;
        let orphaned_attempts = self.running.orphaned_attempts(bulkhead, rows, now);
        if orphaned_attempts.is_empty() {
            return Ok(0);
        }
        let released = self.deps.store.release_orphans(self.deps.node, orphaned_attempts, now).await;
        let rows = released.inspect_err(again)?;
        tracing::warn!(attempts = rows.len(), "released orphaned attempts: begun, and not run here");
        self.deps.feedback.report(rows.iter().map(|row| feedback_of_row(row, Some(row))).collect());
        Ok(rows.len())
    }

    /// When [`Pipeline::reconcile`] wants to be called.
    pub fn reconcile_at(&self) -> Option<Timestamp> {
        self.running.reconcile_at().into_iter().flatten().min()
    }

    /// When [`Pipeline::reconcile_bulkhead`] wants to be called, by bulkhead.
    pub(crate) fn reconcile_at_of_bulkheads(&self) -> Vec<Option<Timestamp>> {
        self.running.reconcile_at()
    }

    /// Messages that will not be begun: their rows return to scheduled, so that nobody waits for them.
    pub async fn hand_back(&self, items: Vec<Item>, now: Timestamp) {
        let batches = self.by_bulkhead(items, |item| item.id).into_values();
        join_all(batches.map(|batch| self.hand_back_of(batch, now))).await;
    }

    async fn hand_back_of(&self, items: Vec<Item>, now: Timestamp) {
        let rows = items.iter().map(|item| (item.id, item.version)).collect();
        if let Err(error) = self.deps.store.release(rows, now).await {
            tracing::warn!(%error, "could not hand messages back; the fetcher will find them");
        }
        let feedback = items.iter().map(|item| feedback_of_message(item, None)).collect();
        let tickets: Vec<_> = items.iter().map(|item| item.ticket).collect();
        self.acknowledge(&tickets, feedback);
    }

    fn acknowledge(&self, tickets: &[Ticket], feedback: Vec<Feedback>) {
        if !tickets.is_empty() {
            self.deps.subscriber.ack(tickets);
        }
        if !feedback.is_empty() {
            self.deps.feedback.report(feedback);
        }
    }

    /// A completion token and its hash, for async configs only.
    fn mint(&self, item: &Item) -> Option<(Box<str>, TokenHash)> {
        let config = self.deps.configs.config(item.config)?;
        if !config.spec.asynchronous.enabled {
            return None;
        }
        let mut random = [0; 16];
        self.deps.entropy.fill(&mut random);
        let token = format!("{:032x}", u128::from_be_bytes(random));
        let hash = Sha256::digest(token.as_bytes()).into();
        Some((token.into_boxed_str(), hash))
    }
}

/// The feedback on messages up to `version` of a task whose row is now `row`.
fn feedback_of(task: TaskId, config: Option<ConfigId>, version: i64, row: Option<&Task>) -> Feedback {
    let (due_again, awaits_until) = row.map_or((None, None), next_times);
    Feedback { task, config, version, due_again, awaits_until, park: None }
}

fn feedback_of_row(task: &Task, row: Option<&Task>) -> Feedback {
    feedback_of(task.id, Some(task.config), task.version, row)
}

fn feedback_of_message(item: &Item, row: Option<&Task>) -> Feedback {
    feedback_of(item.id, Some(item.config), item.version, row)
}

fn next_times(row: &Task) -> (Option<Timestamp>, Option<Timestamp>) {
    match row.status {
        Status::Scheduled => (Some(row.due_at), None),
        Status::Awaiting => (None, Some(row.due_at)),
        _ => (None, None),
    }
}
