//! The two batched steps of a worker. They take `now` and start nothing, so a simulation drives them.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tsp_core::outcome::Verdict;
use tsp_core::task::{Status, Task, TokenHash};
use tsp_core::work::{Begin, Begun, Finish, Finished};
use tsp_core::{Clock, Entropy, Millis, Timestamp};
use tsp_queue::{Feedback, FeedbackSink, Message, Subscriber, Ticket};

use crate::handler::TaskContext;
use crate::intake::Item;
use crate::observe::Observer;
use crate::running::Running;
use crate::service::{ServiceError, TaskService};

/// How soon a begin without an answer is tried again.
const BEGIN_AGAIN_AFTER: Millis = Millis::from_ms(200);

/// begin and finish, with acknowledgement and feedback behind them.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) service: Arc<dyn TaskService>,
    pub(crate) subscriber: Arc<dyn Subscriber>,
    pub(crate) feedback: Arc<dyn FeedbackSink>,
    pub(crate) clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) observer: Observer,
    running: Running,
}

/// An attempt that is begun and to be run.
#[derive(Debug)]
pub struct Started {
    pub context: TaskContext,
    pub ticket: Ticket,
}

/// An attempt that has run.
#[derive(Debug)]
pub struct Executed {
    /// When the handler answered.
    pub ended_at: Timestamp,
    pub task: Box<Task>,
    pub ticket: Ticket,
    pub verdict: Verdict,
}

/// What became of a batch of messages.
#[derive(Debug, Default)]
pub struct BeginReport {
    pub started: Vec<Started>,
    /// Not yet: ask again then. Their lanes are to be given back.
    pub again: Vec<(Timestamp, Item)>,
    /// Dealt with without a call. Their lanes are to be given back.
    pub dropped: Vec<tsp_core::ConfigId>,
}

impl Pipeline {
    pub fn new(
        service: Arc<dyn TaskService>,
        subscriber: Arc<dyn Subscriber>,
        feedback: Arc<dyn FeedbackSink>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            service,
            subscriber,
            feedback,
            clock,
            entropy,
            observer: Observer::default(),
            running: Running::default(),
        }
    }

    /// Takes up to `most` messages and finds the config of each. A message whose row is gone is stale.
    pub async fn receive(&self, most: usize) -> Result<Vec<Item>, ServiceError> {
        let deliveries = self.subscriber.take(most);
        let bare: Vec<_> = deliveries
            .iter()
            .filter(|delivery| delivery.message.row.is_none())
            .map(|delivery| delivery.message.id)
            .collect();
        let mut loaded = if bare.is_empty() {
            Vec::new().into_iter()
        } else {
            match self.service.load(&bare).await {
                Ok(rows) => rows.into_iter(),
                Err(error) => {
                    self.subscriber.requeue(deliveries);
                    return Err(error);
                }
            }
        };
        let mut items = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let Message { id, version, row } = delivery.message;
            let row = row.or_else(|| loaded.next().flatten());
            match row.filter(|row| row.version == version && row.status == Status::Queued) {
                Some(row) => {
                    let (config, ticket) = (row.config, delivery.ticket);
                    items.push(Item { id, version, config, ticket, row: Some(row) });
                }
                None => self.subscriber.ack(&[delivery.ticket]),
            }
        }
        Ok(items)
    }

    /// Begins a batch. Each message of it holds a lane.
    pub async fn begin(&self, items: Vec<Item>, now: Timestamp) -> BeginReport {
        let mut report = BeginReport::default();
        let (mut begins, mut kept, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for mut item in items {
            let (token, hash) = self.mint(&item).unzip();
            begins.push(Begin { id: item.id, version: item.version, row: item.row.take(), token: hash });
            tokens.push(token);
            kept.push(item);
        }
        self.observer.begin_batch(kept.len());
        let beginning = self.running.begin(kept.iter().map(|item| item.id).collect(), now);
        let answers = match self.service.begin(begins, now).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, messages = kept.len(), "begin failed, will try again");
                let again = now.plus(BEGIN_AGAIN_AFTER);
                report.again = kept.into_iter().map(|item| (again, item)).collect();
                return report;
            }
        };
        let may_send = self.service.may_send(self.clock.now());
        if !may_send {
            tracing::warn!(messages = kept.len(), "the lease ended while tasks were begun: none is sent");
            self.running.unsure(now);
        }
        let (mut done, mut feedback) = (Vec::new(), Vec::new());
        for ((answer, item), token) in answers.into_iter().zip(kept).zip(tokens) {
            match answer {
                Begun::Run(_) if !may_send => {
                    done.push(item.ticket);
                    report.dropped.push(item.config);
                }
                Begun::Run(task) => {
                    let Some(config) = self.service.config(task.config) else {
                        // A config with open tasks is not deleted; the row is left to the rescuer.
                        tracing::error!(task = %item.id, config = %item.config, "begun without config");
                        done.push(item.ticket);
                        report.dropped.push(item.config);
                        continue;
                    };
                    let context = TaskContext { task, config, completion_token: token, now };
                    report.started.push(Started { context, ticket: item.ticket });
                }
                Begun::Wait(at) => report.again.push((at, item)),
                Begun::Drop(row) => {
                    done.push(item.ticket);
                    feedback.push(said(&item, row.as_deref(), None));
                    report.dropped.push(item.config);
                }
            }
        }
        beginning.answered(report.started.iter().map(|started| {
            let task = &started.context.task;
            (task.id, task.attempt)
        }));
        self.settle(&done, feedback);
        report
    }

    /// Saves the outcomes. On an error nothing was acknowledged: call again with the same batch.
    pub async fn finish(&self, batch: &[Executed], now: Timestamp) -> Result<(), ServiceError> {
        let finishes = batch.iter().map(|executed| Finish {
            id: executed.task.id,
            attempt: executed.task.attempt,
            verdict: executed.verdict.clone(),
            ended_at: Some(executed.ended_at),
            unit: self.entropy.unit(),
            row: Some(executed.task.clone()),
        });
        let answers = self.service.finish(finishes.collect(), now).await?;
        self.observer.finish_batch(batch.len());
        let mut feedback = Vec::with_capacity(batch.len());
        for (executed, answer) in batch.iter().zip(&answers) {
            let row = match answer {
                Finished::Saved(row) => {
                    self.observer.finished(row, &executed.verdict);
                    Some(&**row)
                }
                Finished::TooLate => None,
            };
            let mut said = said_of(&executed.task, row);
            said.park = executed.verdict.park;
            feedback.push(said);
        }
        let tickets: Vec<_> = batch.iter().map(|executed| executed.ticket).collect();
        for executed in batch {
            self.running.closed((executed.task.id, executed.task.attempt));
        }
        self.settle(&tickets, feedback);
        Ok(())
    }

    /// Gives back the attempts under our name that we do not run: begins whose answer was lost.
    pub async fn reconcile(&self, now: Timestamp) -> Result<usize, ServiceError> {
        if !self.running.start_reconcile(now) {
            return Ok(0);
        }
        let rows = self.service.executing().await.inspect_err(|_| self.running.reconcile_again(now))?;
        let strangers = self.running.strangers(rows, now);
        if strangers.is_empty() {
            return Ok(0);
        }
        let rows = self.service.give_back(strangers, now).await;
        let rows = rows.inspect_err(|_| self.running.reconcile_again(now))?;
        tracing::warn!(attempts = rows.len(), "gave back attempts that were begun and never run");
        self.feedback.report(rows.iter().map(|row| said_of(row, Some(row))).collect());
        Ok(rows.len())
    }

    /// When [`Pipeline::reconcile`] wants to be called.
    pub fn reconcile_at(&self) -> Option<Timestamp> {
        self.running.reconcile_at()
    }

    /// Hands messages back that will not be begun: 10 → 0, so that nobody waits for them.
    pub async fn hand_back(&self, items: Vec<Item>, now: Timestamp) {
        let rows = items.iter().map(|item| (item.id, item.version)).collect();
        if let Err(error) = self.service.release(rows, now).await {
            tracing::warn!(%error, "could not hand messages back; the fetcher will find them");
        }
        let feedback = items.iter().map(|item| said(item, None, None)).collect();
        let tickets: Vec<_> = items.iter().map(|item| item.ticket).collect();
        self.settle(&tickets, feedback);
    }

    fn settle(&self, tickets: &[Ticket], feedback: Vec<Feedback>) {
        if !tickets.is_empty() {
            self.subscriber.ack(tickets);
        }
        if !feedback.is_empty() {
            self.feedback.report(feedback);
        }
    }

    /// A completion token and its hash, for async configs only.
    fn mint(&self, item: &Item) -> Option<(Box<str>, TokenHash)> {
        let config = self.service.config(item.config)?;
        if !config.spec.asynchronous.enabled {
            return None;
        }
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let token = format!("{:032x}", u128::from_be_bytes(random));
        let hash = Sha256::digest(token.as_bytes()).into();
        Some((token.into_boxed_str(), hash))
    }
}

fn said(item: &Item, row: Option<&Task>, park: Option<Millis>) -> Feedback {
    let (due_again, awaits_until) = row.map_or((None, None), next_times);
    Feedback { task: item.id, config: item.config, due_again, awaits_until, park }
}

fn said_of(task: &Task, row: Option<&Task>) -> Feedback {
    let (due_again, awaits_until) = row.map_or((None, None), next_times);
    Feedback { task: task.id, config: task.config, due_again, awaits_until, park: None }
}

fn next_times(row: &Task) -> (Option<Timestamp>, Option<Timestamp>) {
    match row.status {
        Status::Scheduled => (Some(row.due_at), None),
        Status::Awaiting => (None, Some(row.due_at)),
        _ => (None, None),
    }
}
