//! Where each schedule stands, and what is to be done about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::ids::{IdMap, IdSet};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::config_shard;
use tsp_core::{ConfigId, Millis, Timestamp};
use tsp_store::fetching::{Cursor, Fire, SlotTask};
use tsp_store::{Cause, ConfigCache, Result};

use crate::dependencies::FetcherDependencies;
use crate::due_index::DueIndex;
use crate::ownership::ShardOwnership;
use crate::turns::Rank;

/// Schedules handled in one turn; the rest goes in the next, which follows at once.
const FIRES_PER_TURN: usize = 500;
/// After a step of a schedule that failed. It holds up nobody else.
const FIRE_AGAIN_AFTER: Millis = Millis::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Schedules {
    cursors: IdMap<ConfigId, Cursor>,
    /// When each is to be handled.
    fire_order: DueIndex,
    /// Cron configs whose cursor is to be computed again, or whose waiting occurrence may go.
    recompute: BTreeSet<ConfigId>,
    /// Overlap `queue_one`: an occurrence waits for the open one to end.
    waiting: IdSet<ConfigId>,
    /// The config cache's state that the cursors were last compared with; `None`: they were never read.
    config_cache_seq: Option<i64>,
}

impl Schedules {
    /// When one is to be handled next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        if !self.recompute.is_empty() {
            return Some(Timestamp::ZERO);
        }
        self.fire_order.first()
    }

    /// The config was changed, or may have been.
    pub(crate) fn recompute(&mut self, config: ConfigId) {
        self.recompute.insert(config);
    }

    pub(crate) fn recompute_waiting(&mut self) {
        self.recompute.extend(self.waiting.iter().copied());
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A task of `config` may have ended.
    pub(crate) fn may_have_ended(&mut self, config: ConfigId) {
        if self.waiting.contains(&config) {
            self.recompute.insert(config);
        }
    }

    /// Some of the due ones, and some of those that were asked for: neither keeps the other waiting.
    pub(crate) fn take_due(&mut self, config_cache: &ConfigCache, now: Timestamp) -> BTreeSet<ConfigId> {
        let rank = |id| config_cache.config(id).map_or_else(Rank::default, |config| Rank::of(&config));
        self.fire_order.ripen(now, rank);
        let asked = self.recompute.len().min(FIRES_PER_TURN / 2);
        let due: Vec<_> =
            std::iter::from_fn(|| self.fire_order.next_due()).take(FIRES_PER_TURN - asked).collect();
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

    /// A step of it failed.
    pub(crate) fn try_again(&mut self, config: ConfigId, now: Timestamp) {
        self.fire_order.set(config, Some(now.plus(FIRE_AGAIN_AFTER)));
    }

    pub(crate) const fn is_read(&self) -> bool {
        self.config_cache_seq.is_some()
    }

    /// Takes over all cursors.
    pub(crate) fn load(&mut self, cursors: Vec<Cursor>, config_cache: &ConfigCache) {
        self.cursors.clear();
        self.fire_order = DueIndex::default();
        self.waiting.clear();
        for cursor in cursors {
            self.compare(cursor, config_cache);
        }
    }

    /// Finds those that changed without a hint.
    pub(crate) fn catch_up(&mut self, config_cache: &ConfigCache, ownership: &ShardOwnership) {
        let seq = config_cache.seq();
        if self.config_cache_seq == Some(seq) {
            return;
        }
        for config in config_cache.changed_since(self.config_cache_seq.unwrap_or(-1)) {
            let cursor = self.cursors.get(&config.id);
            if ownership.schedules(&config)
                && cursor.is_none_or(|cursor| cursor.config_version < config.version)
            {
                self.recompute.insert(config.id);
            }
        }
        self.config_cache_seq = Some(seq);
    }

    /// Remembers a cursor as it was read, and marks it if it is to be computed again.
    pub(crate) fn compare(&mut self, cursor: Cursor, config_cache: &ConfigCache) {
        let config = config_cache.config(cursor.config);
        if config.is_some_and(|config| cursor.config_version < config.version) {
            self.recompute.insert(cursor.config);
        }
        self.remember(cursor);
    }

    pub(crate) fn remember(&mut self, cursor: Cursor) {
        self.fire_order.set(cursor.config, cursor.next_fire_at);
        if cursor.waiting.is_some() {
            self.waiting.insert(cursor.config);
        } else {
            self.waiting.remove(&cursor.config);
        }
        self.cursors.insert(cursor.config, cursor);
    }

    pub(crate) fn forget(&mut self, id: ConfigId) {
        self.cursors.remove(&id);
        self.waiting.remove(&id);
        self.fire_order.set(id, None);
    }

    /// What is to be done about a schedule, if anything: the first slot after an edit, slots that are due,
    /// an occurrence that waits.
    pub(crate) fn step_of(
        &mut self,
        id: ConfigId,
        deps: &FetcherDependencies,
        ownership: &ShardOwnership,
        now: Timestamp,
    ) -> Result<Option<Fire>> {
        let Some(config) = deps.config_cache.config(id).filter(|config| ownership.schedules(config)) else {
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
            Some(cursor) if cursor.config_version == config.version => {
                self.planned(&config, &cursor, deps, now)
            }
            // A cursor we have not seen: guess its first version; a wrong guess makes us read it.
            cursor => {
                let version = cursor.map_or(1, |cursor| cursor.version);
                Ok(Some(Fire::without_slots(&config, version, next_after_edit(&config))))
            }
        }
    }

    fn planned(
        &mut self,
        config: &Arc<TaskConfig>,
        cursor: &Cursor,
        deps: &FetcherDependencies,
        now: Timestamp,
    ) -> Result<Option<Fire>> {
        let waiting = waiting_task(deps, config, cursor, now)?;
        let due = cursor.next_fire_at.filter(|next| *next <= now);
        let plan = config.spec.schedule.as_ref().zip(due);
        let Some(plan) = plan.map(|(schedule, next)| schedule.plan(next, now)) else {
            self.fire_order.set(config.id, cursor.next_fire_at);
            let fire = Fire { waiting, ..Fire::without_slots(config, cursor.version, cursor.next_fire_at) };
            return Ok(Some(fire).filter(|fire| fire.waiting.is_some()));
        };
        let mut slots = Vec::with_capacity(plan.slots.len());
        for slot in &plan.slots {
            slots.push(SlotTask { task: slot_task(deps, config, slot.at, now)?, late: slot.late });
        }
        Ok(Some(Fire {
            slots,
            waiting,
            missed: i64::try_from(plan.missed).unwrap_or(i64::MAX),
            ..Fire::without_slots(config, cursor.version, plan.next_fire_at)
        }))
    }
}

fn waiting_task(
    deps: &FetcherDependencies,
    config: &TaskConfig,
    cursor: &Cursor,
    now: Timestamp,
) -> Result<Option<SlotTask>> {
    let Some(at) = cursor.waiting else { return Ok(None) };
    let grace = config.spec.schedule.as_ref().map_or(Millis::ZERO, |schedule| schedule.misfire.grace);
    Ok(Some(SlotTask { task: slot_task(deps, config, at, now)?, late: now > at.plus(grace) }))
}

fn slot_task(
    deps: &FetcherDependencies,
    config: &TaskConfig,
    at: Timestamp,
    now: Timestamp,
) -> Result<Box<Task>> {
    let shard = config_shard(config.id, deps.shards);
    let id = deps.ids.next(shard, now).map_err(|error| Cause::Away.because(error.to_string()))?;
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

/// Enabling, resuming or editing never fires the past.
fn next_after_edit(config: &TaskConfig) -> Option<Timestamp> {
    config.spec.schedule.as_ref()?.next_after(config.updated_at)
}
