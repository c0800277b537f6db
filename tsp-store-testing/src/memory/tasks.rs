//! What callers do with tasks.

use async_trait::async_trait;
use tsp_core::config::OnDuplicateKey;
use tsp_core::task::{AttemptRecord, Status, Task};
use tsp_core::transition::submit::{Clash, admit, clash, is_repeated, reopen};
use tsp_core::transition::{Event, OutcomeDetail};
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};
use tsp_store::error::{Result, StoreError};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};

use super::MemoryStore;
use super::state::State;

/// What is ended by one change comes before what is running.
const CANCELLED_FIRST: [Status; 5] =
    [Status::Scheduled, Status::Paused, Status::Awaiting, Status::Queued, Status::Executing];

#[async_trait]
impl TaskStore for MemoryStore {
    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        self.write("submit", |state| batch.into_iter().map(|submit| state.submit(submit, now)).collect())
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read("task", |state| state.rows.any(id).cloned())
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        self.read("task_by_key", |state| {
            state.rows.by_key(config, key).and_then(|id| state.rows.any(id)).cloned()
        })
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        self.write("change", |state| Ok(state.change(&subject, &command, by, now)))
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CancelCount> {
        self.write("cancel_open", |state| Ok(state.cancel_open(config, limit, by, now)))
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        self.read("search", |state| state.search(&query))
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        self.read("attempts", |state| state.rows.closed(id).to_vec())
    }
}

impl State {
    fn submit(&mut self, submit: Submit, now: Timestamp) -> Result<IdempotencyResult<SubmitOutcome>> {
        if let Some(kept) = self.recorded(submit.idempotency.as_ref(), now) {
            return Ok(kept);
        }
        let answer = self.submit_new(*submit.task, submit.on_duplicate, submit.own_payload, now)?;
        self.record(submit.idempotency, &answer);
        Ok(IdempotencyResult::Fresh(answer))
    }

    fn submit_new(
        &mut self,
        mut task: Task,
        on_duplicate: OnDuplicateKey,
        own_payload: bool,
        now: Timestamp,
    ) -> Result<SubmitOutcome> {
        match admit(&task, self.config_cache.config(task.config).as_deref(), self.shards, false) {
            Ok(key_slot) => task.key_slot = key_slot,
            Err(refusal) => return Ok(refusal.into()),
        }
        match self.rows.any(task.id) {
            Some(row) if is_repeated(&task, row) => return Ok(SubmitOutcome::Created(Box::new(row.clone()))),
            Some(_) => return Err(StoreError::Internal(format!("task id {} is used already", task.id))),
            None => {}
        }
        if let Some(holder) = self.holder(&task) {
            let holder = self.rows.open(holder).cloned();
            match clash(&task, on_duplicate, own_payload, holder, now) {
                Clash::Insert { key_slot: 0 } => {
                    return Err(StoreError::Internal(format!(
                        "the key of task {} has no open holder",
                        task.id
                    )));
                }
                Clash::Insert { key_slot } => task.key_slot = key_slot,
                Clash::Existing(holder) => return Ok(SubmitOutcome::Existing(holder)),
                Clash::Reset(change) => {
                    let after_current = change.outcome_detail == OutcomeDetail::AfterCurrent;
                    return Ok(SubmitOutcome::Reset {
                        task: Box::new(self.rows.save(*change)),
                        after_current,
                    });
                }
            }
        }
        self.rows.insert(task.clone());
        Ok(SubmitOutcome::Created(Box::new(task)))
    }

    /// The open task that is the canonical one of the key.
    fn holder(&self, task: &Task) -> Option<TaskId> {
        task.key.as_ref().and_then(|key| self.rows.canonical(task.config, key))
    }

    fn change(
        &mut self,
        subject: &Subject,
        command: &TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> CommandResult {
        let id = match subject {
            Subject::Id(id) => Some(*id),
            Subject::Key(config, key) => self.rows.by_key(*config, key),
        };
        let Some(task) = id.and_then(|id| self.rows.any(id)).cloned() else { return CommandResult::NotFound };
        let config = self.config_cache.config(task.config);
        let mut change = match command.decide(&task, config.as_deref(), now) {
            Ok(change) => change,
            Err(why) => return CommandResult::Refused { task: Box::new(task), why },
        };
        if !task.is_open() {
            match reopen(&change.task, config.as_deref(), self.shards, self.holder(&task)) {
                Ok(key_slot) => change.task.key_slot = key_slot,
                Err(refusal) => return refusal.into(),
            }
        }
        let outcome_detail = change.outcome_detail;
        let task = Box::new(self.rows.save(change));
        if let Some((action, detail)) = command.audited() {
            self.note(by, now, action, task.id.to_string(), detail);
        }
        CommandResult::Done { task, outcome_detail }
    }

    fn cancel_open(&mut self, config: ConfigId, limit: usize, by: &Actor, now: Timestamp) -> CancelCount {
        // A running attempt that is the last one already can only end, and would take others' turn.
        let is_last = |task: &&Task| task.status == Status::Executing && task.cancel_requested;
        let mut wanted: Vec<&Task> = self.rows.open_of(config).filter(|task| !is_last(task)).collect();
        let turn = |task: &Task| CANCELLED_FIRST.iter().position(|status| *status == task.status);
        wanted.sort_by_key(|task| (turn(task), task.due_at, task.id));
        let wanted: Vec<TaskId> = wanted.into_iter().take(limit).map(|task| task.id).collect();
        let mut cancelled = 0;
        for id in wanted {
            if let Ok(task) = self.apply(id, &Event::Cancel, now) {
                cancelled += usize::from(!task.is_open());
                self.note(by, now, "task.cancel", id.to_string(), "with all open tasks of its config");
            }
        }
        CancelCount { cancelled, left: self.rows.open_of(config).count() }
    }
}
