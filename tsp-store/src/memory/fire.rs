//! A step of one schedule.

use tsp_core::Timestamp;
use tsp_core::schedule::{Overlap, OverlapDecision, overlap_decision};
use tsp_core::task::{Origin, Task};

use super::ledger::Occurrence;
use super::state::State;
use crate::schedule::{Cursor, Fire, Fired, Owner, SlotTask};

impl State {
    /// Makes the occurrences and moves the cursor, or neither.
    pub(super) fn fire(&mut self, owner: Owner, fire: Fire) -> Fired {
        if !self.owns(owner) {
            return Fired::Deposed;
        }
        let current = self.book.config(fire.config);
        let config_fits =
            current.is_some_and(|config| config.version == fire.config_version && config.runnable());
        let Some(cursor) = self.cursors.get(&fire.config).cloned() else { return Fired::Stale };
        if !config_fits
            || cursor.version != fire.cursor_version
            || cursor.config_version > fire.config_version
        {
            return Fired::Stale;
        }

        let mut step = Step { cursor, made: Vec::new(), skipped: 0 };
        if let Some(slot) = fire.waiting {
            self.make_waiting(&mut step, slot);
        }
        for slot in fire.slots {
            self.make_slot(&mut step, slot, fire.overlap);
        }
        let Step { mut cursor, made, skipped } = step;
        cursor.version += 1;
        cursor.config_version = fire.config_version;
        cursor.next_fire_at = fire.next_fire_at;
        cursor.missed += fire.missed;
        self.cursors.insert(fire.config, cursor.clone());
        Fired::Moved { cursor, made: made.into_iter().map(Box::new).collect(), skipped }
    }

    /// The waiting occurrence gets its task once nothing else is open.
    fn make_waiting(&mut self, step: &mut Step, slot: SlotTask) {
        if step.cursor.waiting != Some(slot.task.execute_at) || self.has_open(step) {
            return;
        }
        step.cursor.waiting = None;
        self.make(step, slot);
    }

    fn make_slot(&mut self, step: &mut Step, slot: SlotTask, overlap: Overlap) {
        let at = slot.task.execute_at;
        if self.occurrences.contains_key(&(step.cursor.config, at)) || step.cursor.waiting == Some(at) {
            return;
        }
        match overlap_decision(overlap, self.has_open(step), step.cursor.waiting) {
            OverlapDecision::Make => self.make(step, slot),
            OverlapDecision::Skip => self.skip(step, at, slot.late),
            OverlapDecision::Wait => {
                if let Some(before) = step.cursor.waiting.replace(at) {
                    // The one that waited gives way, and runs no more.
                    self.skip(step, before, slot.late);
                }
            }
        }
    }

    /// Whether a task of the schedule, or one run by hand, has not ended.
    fn has_open(&self, step: &Step) -> bool {
        self.rows.open_of(step.cursor.config).any(|task| task.origin != Origin::Submit)
    }

    /// Records a slot that overlap leaves out.
    fn skip(&mut self, step: &mut Step, execute_at: Timestamp, late: bool) {
        let config = step.cursor.config;
        let skipped = Occurrence { config, execute_at, task: None, late };
        if self.occurrences.insert((config, execute_at), skipped).is_none() {
            step.skipped += 1;
        }
    }

    fn make(&mut self, step: &mut Step, slot: SlotTask) {
        let SlotTask { mut task, late } = slot;
        let config = step.cursor.config;
        let guard = Occurrence { config, execute_at: task.execute_at, task: Some(task.id), late };
        if self.occurrences.contains_key(&(config, task.execute_at)) {
            return;
        }
        self.occurrences.insert((config, task.execute_at), guard);
        if task.key.as_ref().is_some_and(|key| self.rows.canonical(config, key).is_some()) {
            task.key_slot = task.id.get();
        }
        self.rows.insert(Task::clone(&task));
        step.made.push(*task);
    }
}

/// What a step has done so far.
struct Step {
    cursor: Cursor,
    made: Vec<Task>,
    skipped: usize,
}
