//! Ids for one process: a generator on a leased slot, renewed well before its time is used up.

use std::sync::Arc;

use parking_lot::Mutex;
use tsp_core::ids::{IdGenerator, SlotUsedUp};
use tsp_core::{Millis, ShardId, TaskId, Timestamp};

use crate::catalog::Catalog;
use crate::error::Result;

/// How far `used_until` is raised beyond the clock; it bounds how far ids may run ahead.
pub const RENEW_AHEAD: Millis = Millis::from_mins(2);
/// How often the slot should be renewed.
pub const RENEW_EVERY: Millis = Millis::from_secs(20);

/// Cheap to clone; all clones share one generator.
#[derive(Debug, Clone)]
pub struct IdSource {
    slot: u8,
    generator: Arc<Mutex<IdGenerator>>,
}

impl IdSource {
    /// Of a process that makes no ids: every call is refused.
    pub fn none() -> Self {
        let generator = IdGenerator::new(0, Timestamp::ZERO, Timestamp::ZERO);
        Self { slot: 0, generator: Arc::new(Mutex::new(generator)) }
    }

    /// Starts above whatever the slot's last holder may have used.
    pub async fn lease(catalog: &dyn Catalog, slot: u8, now: Timestamp) -> Result<Self> {
        let start = catalog.renew_id_slot(slot, now).await?;
        let until = now.max(start).plus(RENEW_AHEAD);
        catalog.renew_id_slot(slot, until).await?;
        Ok(Self { slot, generator: Arc::new(Mutex::new(IdGenerator::new(slot, start, until))) })
    }

    /// To be called every [`RENEW_EVERY`].
    pub async fn renew(&self, catalog: &dyn Catalog, now: Timestamp) -> Result<()> {
        let until = now.plus(RENEW_AHEAD);
        catalog.renew_id_slot(self.slot, until).await?;
        self.generator.lock().extend(until);
        Ok(())
    }

    pub fn next(&self, shard: ShardId, now: Timestamp) -> Result<TaskId, SlotUsedUp> {
        self.generator.lock().next(shard, now)
    }
}
