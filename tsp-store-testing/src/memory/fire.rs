//! A step of one schedule.

use std::collections::BTreeSet;

use tsp_core::schedule::step::StepFindings;
use tsp_core::task::{Origin, Task};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Cursor, Fire, FireResult, Owner};

use super::ledger::Occurrence;
use super::state::State;

impl State {
    /// Makes the occurrences and moves the cursor, or neither.
    pub(super) fn fire(&mut self, owner: Owner, fire: &Fire) -> Result<FireResult> {
        if !self.owns(owner) {
            return Ok(FireResult::Deposed);
        }
        let config = fire.config;
        let cursor = self.cursors.get(&config).cloned().unwrap_or_else(|| Cursor::new(config));
        if !fire.fits_config(self.config_cache.config(config).as_deref()) || !fire.fits_cursor(&cursor) {
            return Ok(FireResult::Stale);
        }
        let wanted = fire.wanted(&cursor);
        let open = wanted.open && self.rows.open_of(config).any(|task| task.origin != Origin::Submit);
        let handled = |at: &_| self.occurrences.contains_key(&(config, *at));
        let handled = wanted.slots.into_iter().filter(handled).collect();
        let step = fire.step(cursor, StepFindings { open, handled });
        let mut ids = BTreeSet::new();
        if let Some(task) = step.tasks().find(|task| self.rows.any(task.id).is_some() || !ids.insert(task.id))
        {
            return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
        }
        for new in &step.occurrences {
            let (execute_at, late) = (new.execute_at, new.late);
            let occurrence =
                Occurrence { config, execute_at, task: new.task.as_ref().map(|task| task.id), late };
            self.occurrences.insert((config, execute_at), occurrence);
        }
        for task in step.tasks() {
            self.rows.insert(Task::clone(task));
        }
        self.cursors.insert(config, step.cursor.clone());
        Ok(step.into())
    }
}
