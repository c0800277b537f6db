//! Schedules: slots become occurrences with their tasks, and the cursor moves, in one transaction.

use std::sync::Arc;

use futures::future::join_all;
use tsp_core::config::{Kind, TaskConfig};
use tsp_core::key::config_shard;
use tsp_core::schedule::{Overlap, Schedule};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::{ConfigId, Millis, Timestamp};
use tsp_store::schedule::{Cursor, Fire, Fired, SlotTask};
use tsp_store::{Result, StoreError};

use crate::fetcher::Fetcher;
use crate::heads::Heads;

/// Schedules handled in one turn; the rest goes in the next, which follows at once.
const FIRES_PER_TURN: usize = 500;

impl Fetcher {
    /// Handles every schedule whose slot has come, and every cursor that is to be computed again.
    pub(crate) async fn fire_schedules(&mut self, now: Timestamp) -> Result<usize> {
        let mut fires = Vec::new();
        for config in std::mem::take(&mut self.recompute) {
            fires.extend(self.recomputed(config, now)?);
        }
        for config in self.due_schedules(now) {
            fires.extend(self.planned(config, now)?);
        }
        if fires.is_empty() {
            return Ok(0);
        }
        let owner = self.parts.owner;
        let configs: Vec<_> = fires.iter().map(|fire| fire.config).collect();
        let answers = join_all(fires.into_iter().map(|fire| self.parts.store.fire(owner, fire, now))).await;
        let (mut made, mut stale, mut failed) = (0, false, None);
        for (config, answer) in configs.into_iter().zip(answers) {
            match answer {
                Ok(Fired::Moved { cursor, made: tasks, skipped }) => {
                    made += tasks.len();
                    if skipped > 0 {
                        tracing::info!(%config, skipped, "slots left out: the previous occurrence is open");
                    }
                    for task in tasks {
                        self.heads.lower(task.config, task.due_at);
                    }
                    self.remember(cursor);
                }
                Ok(Fired::Stale) => stale = true,
                Ok(Fired::Deposed) => self.deposed = true,
                Err(error) => failed = Some(error),
            }
        }
        if stale {
            self.load_cursors().await?;
        }
        failed.map_or(Ok(made), Err)
    }

    /// Reads all cursors, and marks those to be computed again.
    pub(crate) async fn load_cursors(&mut self) -> Result<()> {
        let cursors = self.parts.store.cursors().await?;
        self.cursors.clear();
        self.fire_order = Heads::default();
        self.waiting.clear();
        for cursor in cursors {
            let config = self.parts.store.book().config(cursor.config);
            if config.is_some_and(|config| config.version != cursor.config_version) {
                self.recompute.insert(cursor.config);
            }
            self.remember(cursor);
        }
        Ok(())
    }

    /// When a schedule is to be handled next.
    pub(crate) fn next_fire(&self) -> Option<Timestamp> {
        if !self.recompute.is_empty() {
            return Some(Timestamp::ZERO);
        }
        self.fire_order.first()
    }

    fn remember(&mut self, cursor: Cursor) {
        self.fire_order.set(cursor.config, self.handled_at(&cursor));
        if cursor.waiting.is_some() {
            self.waiting.insert(cursor.config);
        } else {
            self.waiting.remove(&cursor.config);
        }
        self.cursors.insert(cursor.config, cursor);
    }

    /// A slot is handled ahead of its time only where overlap does not matter: whether the previous
    /// occurrence is open can be asked at the slot's time only.
    fn handled_at(&self, cursor: &Cursor) -> Option<Timestamp> {
        let next = cursor.next_fire_at?;
        Some(next.minus(self.lookahead_of(cursor.config)))
    }

    fn lookahead_of(&self, config: ConfigId) -> Millis {
        let config = self.parts.store.book().config(config);
        let ahead = config
            .and_then(|config| config.spec.schedule.as_ref().map(|schedule| schedule.overlap))
            .is_some_and(|overlap| overlap == Overlap::Allow);
        if ahead { self.options.lookahead } else { Millis::ZERO }
    }

    fn due_schedules(&self, now: Timestamp) -> Vec<ConfigId> {
        self.fire_order.due_by(now).into_iter().take(FIRES_PER_TURN).collect()
    }

    /// The first slot after the edit; nothing while the config is held or has no schedule.
    fn recomputed(&mut self, id: ConfigId, now: Timestamp) -> Result<Option<Fire>> {
        let Some(config) = self.parts.store.book().config(id) else {
            self.forget(id);
            return Ok(None);
        };
        if config.spec.kind != Kind::Cron {
            return Ok(None);
        }
        let Some(cursor) = self.cursors.get(&id).cloned() else {
            // A cursor we have not seen: guess its first version; a wrong guess makes us read them all.
            let fire = moved(&config, None, next_after_edit(&config));
            return Ok(Some(fire));
        };
        if cursor.config_version >= config.version {
            // Asked because an occurrence waits and a task of this config has ended.
            return self.waiting_fire(&config, &cursor, now);
        }
        Ok(Some(moved(&config, Some(&cursor), next_after_edit(&config))))
    }

    fn planned(&mut self, id: ConfigId, now: Timestamp) -> Result<Option<Fire>> {
        let Some(cursor) = self.cursors.get(&id).cloned() else { return Ok(None) };
        let Some(config) = self.parts.store.book().config(id) else {
            self.forget(id);
            return Ok(None);
        };
        let (Some(schedule), Some(next)) = (config.spec.schedule.as_ref(), cursor.next_fire_at) else {
            return Ok(None);
        };
        if config.version != cursor.config_version || !config.runnable() {
            return Ok(Some(moved(&config, Some(&cursor), next_after_edit(&config))));
        }
        let plan = schedule.plan(next, now, self.lookahead_of(id));
        let mut slots = Vec::with_capacity(plan.slots.len());
        for slot in &plan.slots {
            slots.push(SlotTask { task: self.slot_task(&config, slot.at, now)?, late: slot.late });
        }
        let waiting = self.waiting_task(&config, &cursor, now)?;
        Ok(Some(Fire {
            config: id,
            cursor_version: cursor.version,
            config_version: config.version,
            overlap: schedule.overlap,
            slots,
            waiting,
            missed: i64::try_from(plan.missed).unwrap_or(i64::MAX),
            next_fire_at: plan.next_fire_at,
        }))
    }

    fn waiting_fire(
        &self,
        config: &Arc<TaskConfig>,
        cursor: &Cursor,
        now: Timestamp,
    ) -> Result<Option<Fire>> {
        let Some(waiting) = self.waiting_task(config, cursor, now)? else { return Ok(None) };
        let mut fire = moved(config, Some(cursor), cursor.next_fire_at);
        fire.waiting = Some(waiting);
        Ok(Some(fire))
    }

    fn waiting_task(
        &self,
        config: &Arc<TaskConfig>,
        cursor: &Cursor,
        now: Timestamp,
    ) -> Result<Option<SlotTask>> {
        let Some(at) = cursor.waiting.filter(|_| config.runnable()) else { return Ok(None) };
        let grace = config.spec.schedule.as_ref().map_or(Millis::ZERO, |schedule| schedule.misfire.grace);
        Ok(Some(SlotTask { task: self.slot_task(config, at, now)?, late: now > at.plus(grace) }))
    }

    fn slot_task(&self, config: &TaskConfig, at: Timestamp, now: Timestamp) -> Result<Box<Task>> {
        let shard = config_shard(config.id, self.parts.store.shards());
        let id =
            self.parts.ids.next(shard, now).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let new = NewTask {
            id,
            config: config.id,
            key: None,
            execute_at: at,
            payload: config.spec.payload.clone(),
            expire_after: config.spec.expire_after,
            origin: Origin::Schedule,
            extra: None,
        };
        Ok(Box::new(Task::new(new, now)))
    }

    fn forget(&mut self, id: ConfigId) {
        self.cursors.remove(&id);
        self.waiting.remove(&id);
        self.fire_order.set(id, None);
    }
}

/// The cursor goes to `next` and nothing is made.
fn moved(config: &TaskConfig, cursor: Option<&Cursor>, next: Option<Timestamp>) -> Fire {
    Fire {
        config: config.id,
        cursor_version: cursor.map_or(1, |cursor| cursor.version),
        config_version: config.version,
        overlap: config.spec.schedule.as_ref().map_or(Overlap::default(), |schedule| schedule.overlap),
        slots: Vec::new(),
        waiting: None,
        missed: 0,
        next_fire_at: next,
    }
}

/// Enabling, resuming or editing never fires the past.
fn next_after_edit(config: &TaskConfig) -> Option<Timestamp> {
    let schedule: &Schedule = config.spec.schedule.as_ref()?;
    if config.runnable() { schedule.next_after(config.updated_at) } else { None }
}
