//! Schedules: slots become occurrences with their tasks, and the cursor moves, in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tsp_core::config::TaskConfig;
use tsp_core::key::config_shard;
use tsp_core::schedule::Overlap;
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::{ConfigId, Millis, Timestamp};
use tsp_store::schedule::{Cursor, Fire, Fired, SlotTask};
use tsp_store::{Cause, Result, StoreError};

use crate::fetcher::{Fetcher, rank_of};
use crate::heads::Heads;
use crate::turns::Rank;

/// Schedules handled in one turn; the rest goes in the next, which follows at once.
const FIRES_PER_TURN: usize = 500;
/// After a step of a schedule that failed. It holds up nobody else.
const FIRE_AGAIN_AFTER: Millis = Millis::from_secs(1);

impl Fetcher {
    /// Handles every schedule whose slot has come, and every cursor that is to be computed again.
    pub(crate) async fn fire_schedules(&mut self, now: Timestamp) -> Result<usize> {
        let mut fires = Vec::new();
        for config in self.schedules_to_handle(now) {
            match self.step_of(config, now) {
                Ok(fire) => fires.extend(fire),
                Err(error) => self.fire_failed(config, &error, now),
            }
        }
        if fires.is_empty() {
            return Ok(0);
        }
        let owner = self.parts.owner;
        let configs: Vec<_> = fires.iter().map(|fire| fire.config).collect();
        let answers = join_all(fires.into_iter().map(|fire| self.parts.store.fire(owner, fire, now))).await;
        let (mut made, mut stale) = (0, Vec::new());
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
                Ok(Fired::Stale) => stale.push(config),
                Ok(Fired::Deposed) => self.deposed = true,
                Err(error) => self.fire_failed(config, &error, now),
            }
        }
        if !stale.is_empty() {
            self.read_again(&stale).await?;
        }
        Ok(made)
    }

    /// Some of the due ones, and some of those that were asked for: neither keeps the other waiting.
    fn schedules_to_handle(&mut self, now: Timestamp) -> BTreeSet<ConfigId> {
        let book = self.parts.book.clone();
        let rank = |id| book.config(id).map_or_else(Rank::default, |config| rank_of(&config));
        self.fire_order.ripen(now, rank);
        let due: Vec<_> =
            std::iter::from_fn(|| self.fire_order.next_due()).take(FIRES_PER_TURN / 2).collect();
        for (config, rank) in &due {
            self.fire_order.wait_again(*config, *rank);
        }
        let mut configs: BTreeSet<_> = due.into_iter().map(|(config, _)| config).collect();
        while configs.len() < FIRES_PER_TURN
            && let Some(config) = self.recompute.pop_first()
        {
            configs.insert(config);
        }
        configs
    }

    fn fire_failed(&mut self, config: ConfigId, error: &StoreError, now: Timestamp) {
        tracing::warn!(%config, %error, "a step of a schedule failed, will try again");
        self.fire_order.set(config, Some(now.plus(FIRE_AGAIN_AFTER)));
        if matches!(error, StoreError::Unknown(_)) {
            self.look_again();
        }
    }

    /// Finds the schedules that changed without a hint. All cursors are read once, at the first turn.
    pub(crate) async fn catch_up_schedules(&mut self) -> Result<()> {
        let book = self.parts.book.clone();
        let seq = book.seq();
        if self.book_seq < 0 {
            self.load_cursors().await?;
        }
        if seq != self.book_seq {
            for config in book.changed_since(self.book_seq) {
                let cursor = self.cursors.get(&config.id);
                if config.spec.schedule.is_some()
                    && self.partition.schedules(&config, self.parts.shards)
                    && cursor.is_none_or(|cursor| cursor.config_version < config.version)
                {
                    self.recompute.insert(config.id);
                }
            }
            self.book_seq = seq;
        }
        Ok(())
    }

    /// Reads all cursors, and marks those to be computed again.
    async fn load_cursors(&mut self) -> Result<()> {
        let cursors = self.parts.store.cursors().await?;
        self.cursors.clear();
        self.fire_order = Heads::default();
        self.waiting.clear();
        for cursor in cursors {
            self.compare(cursor);
        }
        Ok(())
    }

    /// Reads these cursors alone: somebody else has moved them, or their config is another one.
    async fn read_again(&mut self, configs: &[ConfigId]) -> Result<()> {
        let cursors = self.parts.store.cursors_of(configs).await?;
        for config in configs {
            self.forget(*config);
        }
        for cursor in cursors {
            self.compare(cursor);
        }
        Ok(())
    }

    /// Remembers a cursor as it was read, and marks it if it is to be computed again.
    fn compare(&mut self, cursor: Cursor) {
        let config = self.parts.book.config(cursor.config);
        if config.is_some_and(|config| cursor.config_version < config.version) {
            self.recompute.insert(cursor.config);
        }
        self.remember(cursor);
    }

    /// When a schedule is to be handled next.
    pub(crate) fn next_fire(&self) -> Option<Timestamp> {
        if !self.recompute.is_empty() {
            return Some(Timestamp::ZERO);
        }
        self.fire_order.first()
    }

    fn remember(&mut self, cursor: Cursor) {
        self.fire_order.set(cursor.config, cursor.next_fire_at);
        if cursor.waiting.is_some() {
            self.waiting.insert(cursor.config);
        } else {
            self.waiting.remove(&cursor.config);
        }
        self.cursors.insert(cursor.config, cursor);
    }

    /// What is to be done about a schedule, if anything: the first slot after an edit, slots that are due,
    /// an occurrence that waits.
    fn step_of(&mut self, id: ConfigId, now: Timestamp) -> Result<Option<Fire>> {
        let config = self.parts.book.config(id);
        let ours = |config: &Arc<TaskConfig>| {
            config.spec.schedule.is_some() && self.partition.schedules(config, self.parts.shards)
        };
        let Some(config) = config.filter(ours) else {
            self.forget(id);
            return Ok(None);
        };
        let cursor = self.cursors.get(&id).cloned();
        let is_ahead = cursor.as_ref().is_some_and(|cursor| cursor.config_version > config.version);
        if !config.runnable() || is_ahead {
            // Nothing while the config is held; letting it go is a change, and comes back here.
            self.fire_order.set(id, None);
            return Ok(None);
        }
        match cursor {
            Some(cursor) if cursor.config_version == config.version => self.planned(&config, &cursor, now),
            // A cursor we have not seen: guess its first version; a wrong guess makes us read it.
            cursor => Ok(Some(moved(&config, cursor.as_ref(), next_after_edit(&config)))),
        }
    }

    fn planned(&mut self, config: &Arc<TaskConfig>, cursor: &Cursor, now: Timestamp) -> Result<Option<Fire>> {
        let waiting = self.waiting_task(config, cursor, now)?;
        let due = cursor.next_fire_at.filter(|next| *next <= now);
        let plan = config.spec.schedule.as_ref().zip(due);
        let Some(plan) = plan.map(|(schedule, next)| schedule.plan(next, now)) else {
            self.fire_order.set(config.id, cursor.next_fire_at);
            let fire = Fire { waiting, ..moved(config, Some(cursor), cursor.next_fire_at) };
            return Ok(Some(fire).filter(|fire| fire.waiting.is_some()));
        };
        let mut slots = Vec::with_capacity(plan.slots.len());
        for slot in &plan.slots {
            slots.push(SlotTask { task: self.slot_task(config, slot.at, now)?, late: slot.late });
        }
        Ok(Some(Fire {
            slots,
            waiting,
            missed: i64::try_from(plan.missed).unwrap_or(i64::MAX),
            ..moved(config, Some(cursor), plan.next_fire_at)
        }))
    }

    fn waiting_task(
        &self,
        config: &Arc<TaskConfig>,
        cursor: &Cursor,
        now: Timestamp,
    ) -> Result<Option<SlotTask>> {
        let Some(at) = cursor.waiting else { return Ok(None) };
        let grace = config.spec.schedule.as_ref().map_or(Millis::ZERO, |schedule| schedule.misfire.grace);
        Ok(Some(SlotTask { task: self.slot_task(config, at, now)?, late: now > at.plus(grace) }))
    }

    fn slot_task(&self, config: &TaskConfig, at: Timestamp, now: Timestamp) -> Result<Box<Task>> {
        let shard = config_shard(config.id, self.parts.shards);
        let id = self.parts.ids.next(shard, now).map_err(|error| Cause::Away.because(error.to_string()))?;
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
    config.spec.schedule.as_ref()?.next_after(config.updated_at)
}
