//! Ids for one process: a generator on a leased slot, renewed well before its time is used up.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::ids::{IdGenerator, SlotUsedUp};
use tsp_core::{Millis, ShardId, TaskId, Timestamp};

use crate::error::{Result, StoreError};

/// How far `used_until` is raised beyond the clock; it bounds how far ids may run ahead.
pub const RENEW_AHEAD: Millis = Millis::from_mins(2);
/// How often the slot should be renewed.
pub const RENEW_EVERY: Millis = Millis::from_secs(20);

/// Slots of ids, each with the time up to which its ids may have been used.
#[async_trait]
pub trait IdSlots: Send + Sync {
    /// Raises the slot's `used_until` to at least `until`; returns where the last holder left it
    /// (see [`IdGenerator::new`]).
    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp>;
}

/// Cheap to clone; all clones share one generator.
#[derive(Debug, Clone)]
pub struct IdSource {
    slot: u8,
    generator: Arc<Mutex<IdGenerator>>,
    /// What this process wrote last, and what it may have written since: renewals without an answer.
    written: Arc<Mutex<Vec<Timestamp>>>,
}

impl IdSource {
    /// Of a process that makes no ids: every call is refused.
    pub fn none() -> Self {
        let generator = IdGenerator::new(0, Timestamp::ZERO, Timestamp::ZERO);
        Self { slot: 0, generator: Arc::new(Mutex::new(generator)), written: Arc::default() }
    }

    /// Starts above whatever the slot's last holder may have used.
    pub async fn lease(slots: &dyn IdSlots, slot: u8, now: Timestamp) -> Result<Self> {
        let start = slots.renew_id_slot(slot, now).await?;
        let until = now.max(start).plus(RENEW_AHEAD);
        slots.renew_id_slot(slot, until).await?;
        let generator = Arc::new(Mutex::new(IdGenerator::new(slot, start, until)));
        Ok(Self { slot, generator, written: Arc::new(Mutex::new(vec![until])) })
    }

    /// To be called every [`RENEW_EVERY`].
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when somebody else has used the slot since: this process was thought dead.
    /// It makes no more ids then than it had leased, which nobody else makes.
    pub async fn renew(&self, slots: &dyn IdSlots, now: Timestamp) -> Result<()> {
        let until = now.plus(RENEW_AHEAD);
        let mine = {
            // From here on it may be written, also by a call that fails or is dropped on its way.
            let mut written = self.written.lock();
            let mine = written.clone();
            written.push(until);
            mine
        };
        let found = slots.renew_id_slot(self.slot, until).await?;
        if !mine.contains(&found) {
            // From here on nothing that is found is ours.
            self.written.lock().clear();
            let slot = self.slot;
            return Err(StoreError::Unusable(format!("another process uses id slot {slot}")));
        }
        // What stands there is never lowered: the slot's last holder may have been further ahead.
        *self.written.lock() = vec![until.max(found)];
        self.generator.lock().extend(until);
        Ok(())
    }

    pub fn next(&self, shard: ShardId, now: Timestamp) -> Result<TaskId, SlotUsedUp> {
        self.generator.lock().next(shard, now)
    }
}
