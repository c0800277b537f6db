//! The task tables and their indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use tsp_core::task::{AttemptRecord, Status, Task};
use tsp_core::transition::Change;
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};

type ByDue = BTreeSet<(Timestamp, TaskId)>;

/// Open and ended tasks. Every change goes through the methods, which keep the indexes true.
#[derive(Debug, Default)]
pub(super) struct Rows {
    open: BTreeMap<TaskId, Task>,
    ended: BTreeMap<TaskId, Task>,
    closed: BTreeMap<TaskId, Vec<AttemptRecord>>,
    /// At 0.
    ready: BTreeMap<ConfigId, ByDue>,
    /// Awaiting, by deadline.
    waits: ByDue,
    /// Queued and executing.
    in_flight: BTreeSet<TaskId>,
    open_by_config: BTreeMap<ConfigId, BTreeSet<TaskId>>,
    /// The canonical open task of each key.
    canonical: BTreeMap<(ConfigId, TaskKey), TaskId>,
    /// By end, latest last.
    ended_by_key: BTreeMap<(ConfigId, TaskKey), ByDue>,
    /// Tasks ever inserted, a replay as one more.
    pub(super) accepted: i64,
    /// Tasks ever ended.
    pub(super) ended_ever: i64,
}

impl Rows {
    pub(super) fn open(&self, id: TaskId) -> Option<&Task> {
        self.open.get(&id)
    }

    /// Open or ended.
    pub(super) fn any(&self, id: TaskId) -> Option<&Task> {
        self.open.get(&id).or_else(|| self.ended.get(&id))
    }

    pub(super) fn all_open(&self) -> impl Iterator<Item = &Task> {
        self.open.values()
    }

    pub(super) fn all_ended(&self) -> impl Iterator<Item = &Task> {
        self.ended.values()
    }

    pub(super) fn all_closed(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.closed.values().flatten()
    }

    pub(super) fn closed(&self, id: TaskId) -> &[AttemptRecord] {
        self.closed.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn canonical(&self, config: ConfigId, key: &TaskKey) -> Option<TaskId> {
        self.canonical.get(&(config, key.clone())).copied()
    }

    /// The canonical open task of the key, else the one that ended last.
    pub(super) fn by_key(&self, config: ConfigId, key: &TaskKey) -> Option<TaskId> {
        let ended = || self.ended_by_key.get(&(config, key.clone()))?.last().map(|(_, id)| *id);
        self.canonical(config, key).or_else(ended)
    }

    pub(super) fn open_of(&self, config: ConfigId) -> impl Iterator<Item = &Task> {
        self.open_by_config.get(&config).into_iter().flatten().filter_map(|id| self.open.get(id))
    }

    /// The earliest due time of scheduled rows.
    pub(super) fn earliest(&self, config: ConfigId) -> Option<Timestamp> {
        self.ready.get(&config)?.first().map(|(due_at, _)| *due_at)
    }

    pub(super) fn earliest_due(&self) -> impl Iterator<Item = (ConfigId, Timestamp)> {
        self.ready.keys().filter_map(|config| Some((*config, self.earliest(*config)?)))
    }

    /// Scheduled rows of `config` that are due by then, in order of due time and id.
    pub(super) fn due(&self, config: ConfigId, due_by: Timestamp, limit: usize) -> Vec<Task> {
        let ready = self.ready.get(&config).into_iter().flatten();
        let due = ready.take_while(|(due_at, _)| *due_at <= due_by).take(limit);
        due.filter_map(|(_, id)| self.open.get(id).cloned()).collect()
    }

    /// Awaiting rows in order of deadline and id.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Task> {
        self.waits.iter().filter_map(|(_, id)| self.open.get(id))
    }

    /// By id, from the one after `after` on.
    pub(super) fn in_flight(&self, after: Option<TaskId>) -> impl Iterator<Item = &Task> {
        let from = after.map_or(Unbounded, Excluded);
        self.in_flight.range((from, Unbounded)).filter_map(|id| self.open.get(id))
    }

    /// A new task.
    pub(super) fn insert(&mut self, task: Task) {
        self.accepted += 1;
        self.put(task);
    }

    /// What [`tsp_core::transition`] made of a row; returns the row as saved.
    pub(super) fn save(&mut self, change: Change) -> Task {
        let Change { task, closed, outcome_detail: _ } = change;
        if let Some(closed) = closed {
            self.closed.entry(task.id).or_default().push(closed);
        }
        let was_open = self.remove(task.id).is_some_and(|before| before.is_open());
        match (was_open, task.is_open()) {
            (true, false) => self.ended_ever += 1,
            // A replay.
            (false, true) => self.accepted += 1,
            _ => {}
        }
        self.put(task.clone());
        task
    }

    /// Forgets a task with its attempts.
    pub(super) fn forget(&mut self, id: TaskId) {
        self.remove(id);
        self.closed.remove(&id);
    }

    fn put(&mut self, task: Task) {
        let key = task.key.clone().map(|key| (task.config, key));
        if let Some(ended_at) = task.ended_at.filter(|_| !task.is_open()) {
            if let Some(key) = key {
                self.ended_by_key.entry(key).or_default().insert((ended_at, task.id));
            }
            self.ended.insert(task.id, task);
            return;
        }
        match task.status {
            Status::Scheduled => {
                self.ready.entry(task.config).or_default().insert((task.due_at, task.id));
            }
            Status::Awaiting => {
                self.waits.insert((task.due_at, task.id));
            }
            Status::Queued | Status::Executing => {
                self.in_flight.insert(task.id);
            }
            Status::Paused | Status::Ended => {}
        }
        if let Some(key) = key.filter(|_| task.key_slot == 0) {
            self.canonical.insert(key, task.id);
        }
        self.open_by_config.entry(task.config).or_default().insert(task.id);
        self.open.insert(task.id, task);
    }

    fn remove(&mut self, id: TaskId) -> Option<Task> {
        if let Some(task) = self.ended.remove(&id) {
            if let (Some(key), Some(ended_at)) = (&task.key, task.ended_at) {
                let key = (task.config, key.clone());
                drop_from(&mut self.ended_by_key, &key, &(ended_at, id));
            }
            return Some(task);
        }
        let task = self.open.remove(&id)?;
        drop_from(&mut self.ready, &task.config, &(task.due_at, id));
        drop_from(&mut self.open_by_config, &task.config, &id);
        self.waits.remove(&(task.due_at, id));
        self.in_flight.remove(&id);
        if let Some(key) = task.key.clone().filter(|_| task.key_slot == 0) {
            self.canonical.remove(&(task.config, key));
        }
        Some(task)
    }
}

/// Takes `item` out of the set under `key`, and the set with its last item.
fn drop_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, item: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(item);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
