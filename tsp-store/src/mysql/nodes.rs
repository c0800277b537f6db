//! Nodes: one row for each process since its start, in the meta database and by its clock.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use tokio::time::Instant;
use tsp_core::{Millis, NodeId, Timestamp};

use crate::cluster::{Beat, NewNode, NodeRow, Renewal};
use crate::error::Result;

use super::core::Core;
use super::fault::one_or_none;
use super::follow::follow;
use super::session::query;

/// How long a dead node is still shown.
const DEAD_SHOWN: Millis = Millis::from_hours(1);

const JOIN: &str = "-- node_join
INSERT INTO node (name, roles, version, address, started_at, renewals, lease_until, dead_at, config_seq,
    clock_offset, running, pairs)
VALUES (?, ?, ?, ?, {now}, 0, {now} + ?, NULL, ?, 0, 0, 0)";

const RENEW: &str = "-- node_renew
UPDATE node SET renewals = renewals + 1, lease_until = {now} + ?, config_seq = ?, clock_offset = ?,
    running = ?, pairs = ?
WHERE id = ? AND dead_at IS NULL";

const CLOCK: &str = "-- node_clock\nSELECT {now}, value FROM counter WHERE name = 'change'";

const LEAVE: &str = "-- node_leave\nUPDATE node SET dead_at = {now} WHERE id = ? AND dead_at IS NULL";
const FREE_SLOT: &str = "-- slot_free\nUPDATE id_slot SET node = 0 WHERE node = ?";

const NODES_ALIVE: &str = "-- nodes_alive\nSELECT id FROM node WHERE dead_at IS NULL";

const LIST: &str = "-- node_list
SELECT id, name, roles, version, address, started_at, renewals, lease_until,
    CAST(lease_until < {now} AS SIGNED), dead_at, config_seq, clock_offset, running, pairs
FROM node WHERE dead_at IS NULL OR dead_at > {now} - ? ORDER BY id";

const BURY: &str = "-- node_bury
UPDATE node SET dead_at = {now} WHERE id = ? AND renewals = ? AND dead_at IS NULL AND lease_until < {now}";
const DEAD: &str = "-- node_dead\nSELECT dead_at FROM node WHERE id = ?";

/// Until a process has joined, nobody waits for it: so what was changed since it read its book it reads once it
/// has, before it begins anything.
pub(super) async fn join(core: &Core, node: &NewNode, lease: Millis) -> Result<NodeId> {
    let sent = Instant::now();
    let id = insert(core, node, lease).await?;
    core.own.node.store(id.get(), Ordering::Relaxed);
    core.own.renewed(sent, lease);
    if let Err(error) = follow(core).await {
        if let Err(error) = leave(core, id).await {
            tracing::debug!(%error, node = %id, "could not leave after a failed join");
        }
        return Err(error);
    }
    Ok(id)
}

async fn insert(core: &Core, node: &NewNode, lease: Millis) -> Result<NodeId> {
    let meta = &core.meta_leases;
    let id = meta
        .transact("join", |tx| {
            Box::pin(async move {
                query(&meta.sql(JOIN))
                    .bind(&node.name)
                    .bind(node.roles.join(","))
                    .bind(&node.version)
                    .bind(&node.address)
                    .bind(lease.ms())
                    .bind(core.book.settled())
                    .insert(tx.conn())
                    .await
            })
        })
        .await?;
    Ok(NodeId::new(id))
}

pub(super) async fn renew(core: &Core, node: NodeId, lease: Millis, beat: &Beat) -> Result<Renewal> {
    let meta = &core.meta_leases;
    let sent = Instant::now();
    let renewal = meta.read("renew", |tx| {
        Box::pin(async move {
            let renewed = query(&meta.sql(RENEW))
                .bind(lease.ms())
                .bind(beat.config_seq)
                .bind(beat.clock_offset.ms())
                .bind(beat.running)
                .bind(beat.pairs)
                .bind(node.get())
                .execute(tx.conn())
                .await?;
            if !one_or_none(renewed, "node_renew")? {
                return Ok(Renewal::Dead);
            }
            let row = query(&meta.sql(CLOCK)).fetch_one(tx.conn()).await?;
            Ok(Renewal::Alive { clock: Timestamp::from_ms(row.try_get(0)?), config_seq: row.try_get(1)? })
        })
    });
    let renewal = renewal.await?;
    if core.own.node.load(Ordering::Relaxed) == node.get() {
        match renewal {
            Renewal::Alive { .. } => core.own.renewed(sent, lease),
            Renewal::Dead => core.own.ended(),
        }
    }
    Ok(renewal)
}

pub(super) async fn leave(core: &Core, node: NodeId) -> Result<()> {
    if core.own.node.load(Ordering::Relaxed) == node.get() {
        core.own.ended();
    }
    let meta = &core.meta_leases;
    meta.transact("leave", |tx| {
        Box::pin(async move {
            let left = query(&meta.sql(LEAVE)).bind(node.get()).execute(tx.conn()).await?;
            one_or_none(left, "node_leave")?;
            let freed = query(&meta.sql(FREE_SLOT)).bind(node.get()).execute(tx.conn()).await?;
            one_or_none(freed, "slot_free")?;
            Ok(())
        })
    })
    .await
}

pub(super) async fn nodes(core: &Core) -> Result<Vec<NodeRow>> {
    let meta = &core.meta_leases;
    let sql = &meta.sql(LIST);
    let rows = meta.read("nodes", |tx| {
        Box::pin(async move { query(sql).bind(DEAD_SHOWN.ms()).fetch_all(tx.conn()).await })
    });
    rows.await?.iter().map(read_node).collect()
}

pub(super) async fn bury(core: &Core, node: NodeId, renewals: i64) -> Result<bool> {
    let meta = &core.meta_leases;
    meta.read("bury", |tx| {
        Box::pin(async move {
            let bury = query(&meta.sql(BURY)).bind(node.get()).bind(renewals);
            if one_or_none(bury.execute(tx.conn()).await?, "node_bury")? {
                return Ok(true);
            }
            // A node without a record is dead.
            let row = query(&meta.sql(DEAD)).bind(node.get()).fetch_optional(tx.conn()).await?;
            Ok(match row {
                Some(row) => row.try_get::<Option<i64>, _>(0)?.is_some(),
                None => true,
            })
        })
    })
    .await
}

fn read_node(row: &MySqlRow) -> Result<NodeRow> {
    let roles: &str = row.try_get(2)?;
    Ok(NodeRow {
        id: NodeId::new(row.try_get(0)?),
        node: NewNode {
            name: row.try_get(1)?,
            roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
            version: row.try_get(3)?,
            address: row.try_get(4)?,
        },
        started_at: Timestamp::from_ms(row.try_get(5)?),
        renewals: row.try_get(6)?,
        lease_until: Timestamp::from_ms(row.try_get(7)?),
        over: row.try_get::<i64, _>(8)? != 0,
        dead_at: row.try_get::<Option<i64>, _>(9)?.map(Timestamp::from_ms),
        beat: Beat {
            config_seq: row.try_get(10)?,
            clock_offset: Millis::from_ms(row.try_get(11)?),
            running: row.try_get(12)?,
            pairs: row.try_get(13)?,
        },
    })
}

/// Those of `among` that are not alive.
pub(super) async fn dead_nodes(core: &Core, among: &[NodeId]) -> Result<Vec<NodeId>> {
    let alive = core
        .meta
        .read("dead_nodes", |tx| {
            Box::pin(async move {
                let sql = tx.conn().sql(NODES_ALIVE);
                let rows = query(&sql).fetch_all(tx.conn()).await?;
                rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<BTreeSet<i64>>>()
            })
        })
        .await?;
    Ok(among.iter().copied().filter(|node| !alive.contains(&node.get())).collect())
}
