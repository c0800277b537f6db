//! Slots of ids. A process makes ids only on a slot that no other node has.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use sqlx::Row as _;
use tsp_core::{NodeId, Timestamp};

use crate::error::{Result, StoreError};

use super::core::Core;
use super::fault::exactly_one;
use super::session::query;

const FIND: &str = "-- slot_find\nSELECT node, used_until FROM id_slot WHERE slot = ? FOR UPDATE";
const RAISE: &str = "-- slot_raise\nUPDATE id_slot SET used_until = ? WHERE slot = ?";
/// All rows, so that of two that look at once the second finds the first one's.
const ALL: &str = "-- slot_all\nSELECT CAST(slot AS SIGNED), node FROM id_slot ORDER BY slot FOR UPDATE";
const ALIVE: &str = "-- node_alive\nSELECT id FROM node WHERE dead_at IS NULL";
const TAKE: &str = "-- slot_take\nUPDATE id_slot SET node = ? WHERE slot = ?";

/// Raises `used_until`; a slot of another node is refused, so that a process that was declared dead makes no
/// more ids than it had been granted.
pub(super) async fn renew_id_slot(core: &Core, slot: u8, until: Timestamp) -> Result<Timestamp> {
    let own = core.node.load(Ordering::Relaxed);
    core.meta_leases
        .transact("renew_id_slot", |tx| {
            Box::pin(async move {
                let find = query(&core.meta_leases.sql(FIND)).bind(i64::from(slot));
                let found = find.fetch_optional(tx.conn()).await?;
                let row = found.ok_or_else(|| StoreError::Internal(format!("there is no id slot {slot}")))?;
                let (node, used): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                if node != 0 && node != own {
                    return Err(StoreError::Unavailable(format!("id slot {slot} is node {node}'s")));
                }
                if until.ms() > used {
                    let raise = query(&core.meta_leases.sql(RAISE)).bind(until.ms()).bind(i64::from(slot));
                    exactly_one(raise.execute(tx.conn()).await?, "slot_raise")?;
                }
                Ok(Timestamp::from_ms(used))
            })
        })
        .await
}

pub(super) async fn take_id_slot(core: &Core, node: NodeId) -> Result<Option<u8>> {
    core.meta_leases
        .transact("take_id_slot", |tx| {
            Box::pin(async move {
                let meta = &core.meta_leases;
                let mut slots = Vec::new();
                for row in query(&meta.sql(ALL)).fetch_all(tx.conn()).await? {
                    slots.push((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?));
                }
                let mut alive = HashSet::new();
                for row in query(&meta.sql(ALIVE)).fetch_all(tx.conn()).await? {
                    alive.insert(row.try_get::<i64, _>(0)?);
                }
                if !alive.contains(&node.get()) {
                    return Err(StoreError::Unavailable(format!("node {node} is dead")));
                }
                let own = slots.iter().find(|(_, holder)| *holder == node.get());
                let free = || slots.iter().find(|(_, holder)| !alive.contains(holder));
                let Some((slot, _)) = own.or_else(free) else { return Ok(None) };
                let take = query(&meta.sql(TAKE)).bind(node.get()).bind(slot);
                exactly_one(take.execute(tx.conn()).await?, "slot_take")?;
                let slot = u8::try_from(*slot);
                slot.map(Some).map_err(|_| StoreError::Internal("an id slot is out of range".to_owned()))
            })
        })
        .await
}
