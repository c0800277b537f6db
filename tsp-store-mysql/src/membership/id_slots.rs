//! Slots of ids. A process makes ids only on a slot that no other node has.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tsp_core::{NodeId, Timestamp};
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::id_source::IdSlots;

use crate::MySqlStore;
use crate::catalog::change_log;
use crate::connection::session::query;
use crate::context::StoreContext;

const FIND: &str = "-- slot_find\nSELECT node, used_until FROM id_slot WHERE slot = ? FOR UPDATE";
const RAISE: &str = "-- slot_raise
INSERT INTO id_slot (slot, node, used_until) VALUES (?, 0, ?) ON DUPLICATE KEY UPDATE used_until = ?";
const ALL: &str = "-- slot_all\nSELECT CAST(slot AS SIGNED), node FROM id_slot";
const ALIVE: &str = "-- node_alive\nSELECT id FROM node WHERE dead_at IS NULL";
const TAKE: &str = "-- slot_take
INSERT INTO id_slot (slot, node, used_until) VALUES (?, ?, 0) ON DUPLICATE KEY UPDATE node = ?";

/// The slots that an id has room for.
const SLOTS: i64 = 64;

#[async_trait]
impl IdSlots for MySqlStore {
    /// A slot of another node is refused, so that a process that was declared dead makes no more ids than it had
    /// been granted.
    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        let own = self.context.own.node.load(Ordering::Relaxed);
        let meta = &self.context.meta_leases;
        meta.transact("renew_id_slot", |tx| {
            Box::pin(async move {
                let find = query(&meta.sql(FIND)).bind(i64::from(slot));
                let (node, used) = match find.fetch_optional(tx.conn()).await? {
                    Some(row) => (row.get::<i64>(0)?, row.get::<i64>(1)?),
                    None => (0, 0),
                };
                if node != 0 && node != own {
                    return Err(Cause::LeaseOver.because(format!("id slot {slot} is node {node}'s")));
                }
                if until.ms() > used {
                    let raise = query(&meta.sql(RAISE)).bind(i64::from(slot)).bind(until.ms());
                    raise.bind(until.ms()).execute(tx.conn()).await?;
                }
                Ok(Timestamp::from_ms(used))
            })
        })
        .await
    }
}

/// Two that look at once look one after the other.
pub(crate) async fn take_id_slot(context: &StoreContext, node: NodeId) -> Result<Option<u8>> {
    let meta = &context.meta_leases;
    meta.transact_locked("take_id_slot", &meta.sql(change_log::LOCK), |tx| {
        Box::pin(async move {
            let mut holders = HashMap::new();
            for row in query(&meta.sql(ALL)).fetch_all(tx.conn()).await? {
                holders.insert(row.get::<i64>(0)?, row.get::<i64>(1)?);
            }
            let mut alive = HashSet::new();
            for row in query(&meta.sql(ALIVE)).fetch_all(tx.conn()).await? {
                alive.insert(row.get::<i64>(0)?);
            }
            if !alive.contains(&node.get()) {
                return Err(Cause::LeaseOver.because(format!("node {node} is dead")));
            }
            let own = holders.iter().find(|(_, holder)| **holder == node.get()).map(|(slot, _)| *slot);
            let free = (0..SLOTS).find(|slot| holders.get(slot).is_none_or(|holder| !alive.contains(holder)));
            let Some(slot) = own.or(free) else { return Ok(None) };
            let take = query(&meta.sql(TAKE)).bind(slot).bind(node.get()).bind(node.get());
            take.execute(tx.conn()).await?;
            let slot = u8::try_from(slot);
            slot.map(Some).map_err(|_| StoreError::Internal("an id slot is out of range".to_owned()))
        })
    })
    .await
}
