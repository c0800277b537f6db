//! What callers do with tasks.

use async_trait::async_trait;
use tsp_core::config::OnDuplicateKey;
use tsp_core::key::{key_shard, keyless_shard};
use tsp_core::task::{AttemptRecord, Status, Task};
use tsp_core::transition::{Event, Note, transition};
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};

use super::MemoryStore;
use super::state::State;
use crate::error::{Result, StoreError};
use crate::idempotency::Kept;
use crate::search::{Page, TaskQuery};
use crate::tasks::{Actor, Cancelled, Changed, Subject, Submit, Submitted, TaskStore, Wish};

#[async_trait]
impl TaskStore for MemoryStore {
    async fn submit(&self, batch: Vec<Submit>, now: Timestamp) -> Result<Vec<Kept<Submitted>>> {
        self.write("submit", |state| {
            for submit in &batch {
                state.check_new(&submit.task)?;
            }
            Ok(batch.into_iter().map(|submit| state.submit(submit, now)).collect())
        })
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read("task", |state| state.rows.any(id).cloned())
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        self.read("task_by_key", |state| {
            state.rows.by_key(config, key).and_then(|id| state.rows.any(id)).cloned()
        })
    }

    async fn change(&self, subject: Subject, wish: Wish, by: &Actor, now: Timestamp) -> Result<Changed> {
        self.write("change", |state| Ok(state.change(&subject, &wish, by, now)))
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Cancelled> {
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
    /// An id that comes again is the same submit again (its first answer was lost), or a bug.
    fn check_new(&self, task: &Task) -> Result<()> {
        match self.rows.any(task.id) {
            Some(row) if row.config != task.config || row.key != task.key => {
                Err(StoreError::Internal(format!("task id {} is used already", task.id)))
            }
            _ => Ok(()),
        }
    }

    fn submit(&mut self, submit: Submit, now: Timestamp) -> Kept<Submitted> {
        let Submit { task, on_duplicate, own_payload, keep } = submit;
        if let Some(kept) = self.kept(keep.as_ref(), now) {
            return kept;
        }
        let answer = self.submit_new(*task, on_duplicate, own_payload, now);
        self.keep(keep, &answer);
        Kept::Fresh(answer)
    }

    fn submit_new(
        &mut self,
        mut task: Task,
        on_duplicate: OnDuplicateKey,
        own_payload: bool,
        now: Timestamp,
    ) -> Submitted {
        match self.book.config(task.config) {
            None => return Submitted::ConfigGone,
            Some(config) if !config.spec.enabled => return Submitted::ConfigDisabled,
            Some(config) => {
                if !self.is_home(&task, config.spec.span) {
                    return Submitted::NotAtHome;
                }
            }
        }
        if let Some(row) = self.rows.any(task.id) {
            return Submitted::Created(Box::new(row.clone()));
        }
        let holder = task.key.as_ref().and_then(|key| self.rows.canonical(task.config, key));
        if let Some(holder) = holder {
            match on_duplicate {
                OnDuplicateKey::Ignore => {
                    if let Some(existing) = self.rows.open(holder) {
                        return Submitted::Existing(Box::new(existing.clone()));
                    }
                }
                OnDuplicateKey::Reset => {
                    let payload = task.payload.clone().filter(|_| own_payload);
                    if let Some(reset) = self.reset(holder, task.execute_at, payload, now) {
                        return reset;
                    }
                }
                OnDuplicateKey::Add => task.key_slot = task.id.get(),
            }
        }
        self.rows.insert(task.clone());
        Submitted::Created(Box::new(task))
    }

    fn reset(
        &mut self,
        holder: TaskId,
        execute_at: Timestamp,
        payload: Option<bytes::Bytes>,
        now: Timestamp,
    ) -> Option<Submitted> {
        let row = self.rows.open(holder)?;
        let change = transition(row, &Event::Reset { execute_at, payload }, now).ok()?;
        let after_current = change.note == Note::AfterCurrent;
        Some(Submitted::Reset { task: Box::new(self.rows.save(change)), after_current })
    }

    fn change(&mut self, subject: &Subject, wish: &Wish, by: &Actor, now: Timestamp) -> Changed {
        let id = match subject {
            Subject::Id(id) => Some(*id),
            Subject::Key(config, key) => self.rows.by_key(*config, key),
        };
        let Some(task) = id.and_then(|id| self.rows.any(id)).cloned() else { return Changed::NotFound };
        let policy = self.policy(task.config);
        let event = match wish {
            Wish::Cancel => Event::Cancel,
            Wish::Pause => Event::Pause,
            Wish::Resume => Event::Resume,
            Wish::Postpone { execute_at } => Event::Postpone { execute_at: *execute_at },
            Wish::Run => Event::Run,
            Wish::Replay => Event::Replay,
            Wish::Complete { token, completion, unit } => {
                Event::Complete { token, completion: completion.clone(), rules: policy.rules(*unit) }
            }
            Wish::Progress { token, report } => {
                Event::Progress { token, report: report.clone(), rules: policy.rules(0.0) }
            }
        };
        let mut change = match transition(&task, &event, now) {
            Ok(change) => change,
            Err(why) => return Changed::Refused { task: Box::new(task), why },
        };
        if *wish == Wish::Replay
            && let Some(refused) = self.place_replay(&mut change.task)
        {
            return refused;
        }
        let note = change.note;
        let task = Box::new(self.rows.save(change));
        if let Some(action) = action(wish) {
            self.note(by, now, action, task.id.to_string(), "");
        }
        Changed::Done { task, note }
    }

    fn is_home(&self, task: &Task, span: u16) -> bool {
        let shard = task.id.shard();
        match &task.key {
            Some(key) => key_shard(task.config, key.as_str(), span, self.shards) == shard,
            None if span == 0 => true,
            None => (0..u64::from(span)).any(|n| keyless_shard(task.config, n, span, self.shards) == shard),
        }
    }

    /// Finds the key slot of a task that opens again, or why it cannot.
    fn place_replay(&self, task: &mut Task) -> Option<Changed> {
        let Some(config) = self.book.config(task.config) else { return Some(Changed::NotFound) };
        if !config.spec.enabled {
            return Some(Changed::ConfigDisabled);
        }
        let key = task.key.as_ref().filter(|_| task.key_slot == 0)?;
        if key_shard(task.config, key.as_str(), config.spec.span, self.shards) != task.id.shard() {
            // Its shard is no longer the key's home (DESIGN.md section 5.4).
            task.key_slot = task.id.get();
            return None;
        }
        self.rows.canonical(task.config, key).map(|holder| Changed::KeyInUse { holder })
    }

    fn cancel_open(&mut self, config: ConfigId, limit: usize, by: &Actor, now: Timestamp) -> Cancelled {
        // A running attempt that is the last one already can only end, and would take others' turn.
        let is_last = |task: &&Task| task.status == Status::Executing && task.cancel_requested;
        let wanted = self.rows.open_of(config).filter(|task| !is_last(task)).take(limit);
        let wanted: Vec<TaskId> = wanted.map(|task| task.id).collect();
        let mut cancelled = 0;
        for id in wanted {
            if self.apply(id, &Event::Cancel, now).is_ok_and(|task| !task.is_open()) {
                cancelled += 1;
            }
            self.note(by, now, "task.cancel", id.to_string(), "with all open tasks of its config");
        }
        Cancelled { cancelled, left: self.rows.open_of(config).count() }
    }
}

/// The name of what a person did; callees are not persons.
fn action(wish: &Wish) -> Option<&'static str> {
    match wish {
        Wish::Cancel => Some("task.cancel"),
        Wish::Pause => Some("task.pause"),
        Wish::Resume => Some("task.resume"),
        Wish::Postpone { .. } => Some("task.postpone"),
        Wish::Run => Some("task.run"),
        Wish::Replay => Some("task.replay"),
        Wish::Complete { .. } | Wish::Progress { .. } => None,
    }
}
