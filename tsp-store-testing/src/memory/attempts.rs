//! What workers do.

use async_trait::async_trait;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Event, Refusal, Rules};
use tsp_core::work::Each;
use tsp_core::{NodeId, TaskId, Timestamp};
use tsp_store::attempts::{
    AttemptStore, BeginRequest, BeginResult, Finish, FinishResult, WorkError, alike, for_worker,
};

use super::MemoryStore;
use super::state::State;

#[async_trait]
impl AttemptStore for MemoryStore {
    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        let row = |state: &State, id: &TaskId| state.rows.open(*id).cloned().map(Box::new);
        for_worker(alike(self.read("load", |state| ids.iter().map(|id| row(state, id)).collect()), ids.len()))
    }

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        let begun = self
            .write("begin", |state| Ok(batch.iter().map(|begin| state.begin(node, begin, now)).collect()));
        for_worker(alike(begun, batch.len()))
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        let finished = self.write("finish", |state| {
            Ok(batch.iter().map(|finish| state.finish(node, finish, now)).collect())
        });
        for_worker(alike(finished, batch.len()))
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> {
        Ok(self.write("release", |state| Ok(state.release(&batch, now)))?)
    }

    async fn executing(&self, node: NodeId, _bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> {
        Ok(self.read("executing", |state| {
            let here = |task: &&Task| task.status == Status::Executing && task.node == Some(node);
            state.rows.in_flight(None).filter(here).map(|task| (task.id, task.attempt)).collect()
        })?)
    }

    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError> {
        Ok(self.write("give_back", |state| {
            let given = |(id, attempt): &(TaskId, u32)| {
                let row = state.rows.open(*id).filter(|row| row.attempt == *attempt)?;
                let config = state.config_cache.config(row.config);
                let rules = Rules::of(config.as_deref(), 0.0);
                state.apply(*id, &Event::NodeLost { node, rules }, now).ok()
            };
            Ok(rows.iter().filter_map(given).collect())
        })?)
    }
}

impl State {
    fn begin(&mut self, node: NodeId, begin: &BeginRequest, now: Timestamp) -> BeginResult {
        // The inline row saves a database a read; here the stored one is as near.
        let Some(task) = self.rows.open(begin.id) else { return BeginResult::Drop(None) };
        let runnable = self.config_cache.config(task.config).is_some_and(|config| config.runnable());
        let event = Event::Begin { version: begin.version, node, runnable, token: begin.token };
        match self.apply(begin.id, &event, now) {
            Ok(task) if task.status == Status::Executing => BeginResult::Run(Box::new(task)),
            Ok(task) => BeginResult::Drop(Some(Box::new(task))),
            Err(Refusal::NotDue { due_at }) => BeginResult::Wait(due_at),
            Err(_) => BeginResult::Drop(None),
        }
    }

    fn finish(&mut self, node: NodeId, finish: &Finish, now: Timestamp) -> FinishResult {
        let now = finish.ended_at.map_or(now, |ended_at| ended_at.min(now));
        let Some(task) = self.rows.open(finish.id) else { return FinishResult::TooLate };
        let config = self.config_cache.config(task.config);
        let rules = Rules::of(config.as_deref(), finish.jitter_fraction);
        let event = Event::Finish { attempt: finish.attempt, node, verdict: &finish.verdict, rules };
        match self.apply(finish.id, &event, now) {
            Ok(task) => FinishResult::Saved(Box::new(task)),
            Err(_) => FinishResult::TooLate,
        }
    }

    /// Queued to scheduled, where the version is still the row's.
    pub(super) fn release(&mut self, batch: &[(TaskId, i64)], now: Timestamp) -> Vec<Task> {
        let released =
            |(id, version): &(TaskId, i64)| self.apply(*id, &Event::Release { version: *version }, now).ok();
        batch.iter().filter_map(released).collect()
    }
}
