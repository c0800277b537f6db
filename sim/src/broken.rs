//! Known ways to break the protocol, each a store that leaves out one rule. The checker must see every
//! one of them: what it does not see, it does not hold.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::config::TaskConfig;
use tsp_core::task::{AttemptRecord, NewTask, Origin, Status, Task};
use tsp_core::task_key::config_shard;
use tsp_core::transition::{Completion, OutcomeDetail};
use tsp_core::work::{AttemptStore, BeginRequest, BeginResult, Each, Finish, FinishResult, WorkError};
use tsp_core::{AppId, ConfigId, KeyId, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, DeleteResult,
    ExpectedVersion, Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope,
    FetcherStore, Fire, FireResult, FlightMark, InFlightPage, Owner, RetentionStore,
};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};
use tsp_store::{ConfigCache, IdSlots, Result, forward};
use tsp_store_testing::memory::MemoryStore;

use crate::weather::finish_off;

/// The rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Begin takes any message for any version of a row, and asks no clock.
    BeginTakesAnyVersion,
    /// Finish compares nothing but the state.
    FinishTakesAnyAttempt,
    /// Claims are not fenced by the epoch.
    ClaimIgnoresEpoch,
    /// Executing rows of a dead node stay executing.
    LostNodesStay,
    /// Queued rows never return to scheduled.
    NothingIsRearmed,
    /// The worker never compares what it runs with the rows.
    NoReconcile,
    /// Awaiting rows have no deadline.
    NoDeadline,
    /// A slot is made again when the cursor moves on.
    SlotsTwice,
    /// Accepted before it is durable.
    SubmitNotDurable,
    /// A pause is answered and takes effect some other time.
    PauseNotHeeded,
    /// `cancelled` is answered and nothing happens.
    CancelForgotten,
    /// `too_late` is answered and the flag forgotten.
    FlagForgotten,
    /// Any token completes.
    AnyToken,
    /// A worker that saves an outcome forgets all attempts of its task, and so releases the one that runs.
    FinishForgetsTheTask,
    /// A batch that fails in part is reported as saved.
    PartSavedAllTold,
    /// The end of a wait also ends an attempt whose call still runs.
    DeadlineEndsWhatRuns,
    /// What had read a config is committed after the config's deletion was answered.
    WorkOutlivesDelete,
}

/// A store without one of its rules.
#[derive(Debug)]
pub(crate) struct BrokenStore {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) bug: Bug,
    /// Attempts that run and that the worker has forgotten.
    forgotten: Mutex<Vec<(TaskId, u32)>>,
}

impl BrokenStore {
    pub(crate) fn new(inner: Arc<MemoryStore>, bug: Bug) -> Self {
        Self { inner, bug, forgotten: Mutex::default() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn row(&self, id: TaskId) -> Option<Task> {
        finish_off(self.inner.task(id)).expect("no faults")
    }

    /// A submit that nobody else makes.
    fn late(&self, config: ConfigId, now: Timestamp) -> Submit {
        let shard = i64::from(config_shard(config, self.inner.shards()).get());
        let new = NewTask {
            // The last sequence number of a millisecond: nobody makes so many ids.
            id: TaskId::new(TaskId::first_at(now).get() | (shard << 13) | 0x7f),
            config,
            key: None,
            execute_at: now,
            payload: None,
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, now));
        let on_duplicate = tsp_core::config::OnDuplicateKey::Add;
        Submit { task, on_duplicate, own_payload: true, idempotency: None }
    }

    /// The owner that the store would accept.
    fn any_owner(&self, owner: Owner) -> Owner {
        self.inner.dump().owner.unwrap_or(owner)
    }
}

#[async_trait]
impl TaskStore for BrokenStore {
    forward!(inner: task task_by_key cancel_open search attempts);

    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        if self.has(Bug::SubmitNotDurable) && batch.iter().any(|submit| submit.task.id.get() % 128 == 1) {
            let lost = |submit: Submit| IdempotencyResult::Fresh(SubmitOutcome::Created(submit.task));
            return Ok(batch.into_iter().map(lost).collect());
        }
        self.inner.submit(batch, now).await
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        let Subject::Id(id) = subject else { return self.inner.change(subject, command, by, now).await };
        let row = self.row(id).filter(Task::is_open);
        let (command, answer) = match (command, row) {
            (TaskCommand::Cancel, Some(row)) if row.status == Status::Executing => (
                TaskCommand::Cancel,
                Some((row, OutcomeDetail::TooLate)).filter(|_| self.has(Bug::FlagForgotten)),
            ),
            (TaskCommand::Cancel, Some(row)) => (
                TaskCommand::Cancel,
                Some((row, OutcomeDetail::None)).filter(|_| self.has(Bug::CancelForgotten)),
            ),
            (TaskCommand::Complete { token, completion, jitter_fraction }, Some(row))
                if self.has(Bug::AnyToken) =>
            {
                (
                    TaskCommand::Complete { token: row.token.unwrap_or(token), completion, jitter_fraction },
                    None,
                )
            }
            (command, _) => (command, None),
        };
        match answer {
            Some((row, outcome_detail)) => Ok(CommandResult::Done { task: Box::new(row), outcome_detail }),
            None => self.inner.change(subject, command, by, now).await,
        }
    }
}

#[async_trait]
impl AttemptStore for BrokenStore {
    forward!(inner: load release release_orphans);

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        let forgotten = std::mem::take(&mut *self.forgotten.lock());
        if !forgotten.is_empty() && self.inner.release_orphans(node, forgotten.clone(), now).await.is_err() {
            self.forgotten.lock().extend(forgotten);
        }
        if !self.has(Bug::BeginTakesAnyVersion) {
            return self.inner.begin(node, batch, now).await;
        }
        let mut answers = Vec::with_capacity(batch.len());
        for begin in batch {
            let row = self.row(begin.id);
            let version = row.as_ref().map_or(begin.version, |row| row.version);
            let due_at = row.map_or(now, |row| row.due_at);
            answers.extend(
                self.inner.begin(node, vec![BeginRequest { version, ..begin }], now.max(due_at)).await,
            );
        }
        answers
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        if self.has(Bug::FinishForgetsTheTask) {
            let ids: Vec<TaskId> = batch.iter().map(|finish| finish.id).collect();
            let answers = self.inner.finish(node, batch, now).await;
            let rows = ids.into_iter().filter_map(|id| self.row(id));
            let next = rows.filter(|row| row.status == Status::Executing).map(|row| (row.id, row.attempt));
            self.forgotten.lock().extend(next);
            return answers;
        }
        if self.has(Bug::PartSavedAllTold) && batch.len() > 1 {
            let mut batch = batch;
            let failed = batch.pop().and_then(|finish| self.row(finish.id));
            let mut answers = self.inner.finish(node, batch, now).await;
            answers.push(Ok(failed.map_or(FinishResult::TooLate, |row| FinishResult::Saved(Box::new(row)))));
            return answers;
        }
        if !self.has(Bug::FinishTakesAnyAttempt) {
            return self.inner.finish(node, batch, now).await;
        }
        let attempt = |finish: Finish| {
            let attempt = self.row(finish.id).map_or(finish.attempt, |row| row.attempt);
            Finish { attempt, ..finish }
        };
        self.inner.finish(node, batch.into_iter().map(attempt).collect(), now).await
    }

    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> {
        let rows = self.inner.executing(node, bulkhead).await?;
        Ok(if self.has(Bug::NoReconcile) { Vec::new() } else { rows })
    }
}

#[async_trait]
impl EmbeddedOwnership for BrokenStore {
    forward!(inner: register_node take_shards);
}

#[async_trait]
impl FetcherStore for BrokenStore {
    forward!(inner:
        fetch_scope dead_nodes earliest_due in_flight next_deadline parks save_parks cursors cursors_of
    );

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        let owner = if self.has(Bug::ClaimIgnoresEpoch) { self.any_owner(owner) } else { owner };
        self.inner.claim(owner, requests, now).await
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.has(Bug::NothingIsRearmed) {
            return Ok(Vec::new());
        }
        self.inner.return_to_scheduled(owner, rows, now).await
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.has(Bug::LostNodesStay) {
            return Ok(Vec::new());
        }
        self.inner.mark_worker_lost(owner, rows, now).await
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.has(Bug::NoDeadline) {
            return Ok(Vec::new());
        }
        if self.has(Bug::DeadlineEndsWhatRuns) {
            let open = self.inner.open_tasks();
            for row in open.into_iter().filter(|row| row.status == Status::Executing) {
                let Some(token) = row.token else { continue };
                let completion = Completion::Retry { after: None, message: None };
                let command = TaskCommand::Complete { token, completion, jitter_fraction };
                self.inner.change(Subject::Id(row.id), command, &Actor::system(), now).await?;
            }
        }
        self.inner.end_waits(owner, limit, jitter_fraction, now).await
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        let mut fired = self.inner.fire(owner, fires, now).await;
        for result in fired.iter_mut().filter(|_| self.has(Bug::SlotsTwice)) {
            let Ok(FireResult::Moved { made, .. }) = result else { continue };
            let again = made.iter().filter(|task| task.origin == Origin::Schedule).map(|task| {
                let mut task = task.clone();
                // Another sequence number of the same millisecond's end: nobody makes so many ids.
                task.id = TaskId::new(task.id.get() | 0x7f);
                Submit {
                    task,
                    on_duplicate: tsp_core::config::OnDuplicateKey::Add,
                    own_payload: true,
                    idempotency: None,
                }
            });
            if let Err(error) = self.inner.submit(again.collect(), now).await {
                *result = Err(error);
            }
        }
        fired
    }
}

#[async_trait]
impl RetentionStore for BrokenStore {
    forward!(inner: apply_retention);
}

#[async_trait]
impl AuditorStore for BrokenStore {
    forward!(inner: audit);
}

#[async_trait]
impl IdSlots for BrokenStore {
    forward!(inner: renew_id_slot);
}

#[async_trait]
impl AuditLog for BrokenStore {
    forward!(inner: audit_log);
}

#[async_trait]
impl ConfigBarrier for BrokenStore {
    forward!(inner: applied_by_all);
}

#[async_trait]
impl Catalog for BrokenStore {
    forward!(inner:
        config_cache shards refresh create_app update_app delete_app create_key keys key_by_hash delete_key
        save_config parked unpark
    );

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let config: Option<Arc<TaskConfig>> = self.config_cache().config(id);
        match (hold, config) {
            (Hold::Pause { .. }, Some(config)) if self.has(Bug::PauseNotHeeded) => {
                Ok(ConfigSaved::Updated(config))
            }
            (hold, _) => self.inner.hold_config(id, hold, by, now).await,
        }
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        let config = self.config_cache().config(id);
        let deleted = self.inner.delete_config(id, expected, by, now).await?;
        if let (true, DeleteResult::Deleted, Some(config)) =
            (self.has(Bug::WorkOutlivesDelete), &deleted, config)
        {
            let config_cache = self.config_cache();
            config_cache.put_config(config, config_cache.seq());
            let submit = self.late(id, now);
            // It may fail as any other.
            let _ = self.inner.submit(vec![submit], now).await;
            config_cache.remove_config(id, config_cache.seq());
        }
        Ok(deleted)
    }
}
