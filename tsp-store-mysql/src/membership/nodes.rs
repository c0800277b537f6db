//! Nodes: one row for each process since its start, in the meta database and by its clock.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tsp_core::{Millis, NodeId, Timestamp};
use tsp_store::backend::row_count::one_or_none;
use tsp_store::cluster::{Heartbeat, NewNode, NodeRow, Renewal};
use tsp_store::error::Result;

use crate::catalog::follow::follow;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::context::StoreContext;

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

const MARK_DEAD: &str = "-- node_bury
UPDATE node SET dead_at = {now} WHERE id = ? AND renewals = ? AND dead_at IS NULL AND lease_until < {now}";
const DEAD: &str = "-- node_dead\nSELECT dead_at FROM node WHERE id = ?";

/// Until a process has joined, nobody waits for it: so what was changed since it filled its config cache it
/// reads once it has, before it begins anything.
pub(crate) async fn join(context: &StoreContext, node: &NewNode, lease: Millis) -> Result<NodeId> {
    let sent = Instant::now();
    let id = insert(context, node, lease).await?;
    context.own.node.store(id.get(), Ordering::Relaxed);
    context.own.renewed(sent, lease);
    if let Err(error) = follow(context).await {
        if let Err(error) = leave(context, id).await {
            tracing::debug!(%error, node = %id, "could not leave after a failed join");
        }
        return Err(error);
    }
    Ok(id)
}

async fn insert(context: &StoreContext, node: &NewNode, lease: Millis) -> Result<NodeId> {
    let meta = &context.meta_leases;
    let id = meta
        .transact("join", |tx| {
            Box::pin(async move {
                query(&meta.sql(JOIN))
                    .bind(&node.name)
                    .bind(node.roles.join(","))
                    .bind(&node.version)
                    .bind(node.address.as_deref())
                    .bind(lease.ms())
                    .bind(context.config_cache.finalised())
                    .insert(tx.conn())
                    .await
            })
        })
        .await?;
    Ok(NodeId::new(id))
}

pub(crate) async fn renew(
    context: &StoreContext,
    node: NodeId,
    lease: Millis,
    heartbeat: &Heartbeat,
) -> Result<Renewal> {
    let meta = &context.meta_leases;
    let sent = Instant::now();
    let renewal = meta.read("renew", |tx| {
        Box::pin(async move {
            let renewed = query(&meta.sql(RENEW))
                .bind(lease.ms())
                .bind(heartbeat.config_seq)
                .bind(heartbeat.clock_offset.ms())
                .bind(heartbeat.running)
                .bind(heartbeat.shard_groups)
                .bind(node.get())
                .execute(tx.conn())
                .await?;
            if !one_or_none(renewed, "node_renew")? {
                return Ok(Renewal::Dead);
            }
            let row = query(&meta.sql(CLOCK)).fetch_one(tx.conn()).await?;
            Ok(Renewal::Alive { clock: Timestamp::from_ms(row.get(0)?), config_seq: row.get(1)? })
        })
    });
    let renewal = renewal.await?;
    if context.own.node.load(Ordering::Relaxed) == node.get() {
        match renewal {
            Renewal::Alive { .. } => context.own.renewed(sent, lease),
            Renewal::Dead => context.own.ended(),
        }
    }
    Ok(renewal)
}

pub(crate) async fn leave(context: &StoreContext, node: NodeId) -> Result<()> {
    if context.own.node.load(Ordering::Relaxed) == node.get() {
        context.own.ended();
    }
    let meta = &context.meta_leases;
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

pub(crate) async fn nodes(context: &StoreContext) -> Result<Vec<NodeRow>> {
    let meta = &context.meta_leases;
    let sql = &meta.sql(LIST);
    let rows = meta.read("nodes", |tx| {
        Box::pin(async move { query(sql).bind(DEAD_SHOWN.ms()).fetch_all(tx.conn()).await })
    });
    rows.await?.iter().map(read_node).collect()
}

pub(crate) async fn mark_dead(context: &StoreContext, node: NodeId, renewals: i64) -> Result<bool> {
    let meta = &context.meta_leases;
    meta.read("bury", |tx| {
        Box::pin(async move {
            let mark_dead = query(&meta.sql(MARK_DEAD)).bind(node.get()).bind(renewals);
            if one_or_none(mark_dead.execute(tx.conn()).await?, "node_bury")? {
                return Ok(true);
            }
            // A node without a record is dead.
            let row = query(&meta.sql(DEAD)).bind(node.get()).fetch_optional(tx.conn()).await?;
            Ok(match row {
                Some(row) => row.get::<Option<i64>>(0)?.is_some(),
                None => true,
            })
        })
    })
    .await
}

fn read_node(row: &Row) -> Result<NodeRow> {
    let roles: &str = row.get(2)?;
    Ok(NodeRow {
        id: NodeId::new(row.get(0)?),
        node: NewNode {
            name: row.get(1)?,
            roles: roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
            version: row.get(3)?,
            address: row.get(4)?,
        },
        started_at: Timestamp::from_ms(row.get(5)?),
        renewals: row.get(6)?,
        lease_until: Timestamp::from_ms(row.get(7)?),
        expired: row.get::<i64>(8)? != 0,
        dead_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_ms),
        heartbeat: Heartbeat {
            config_seq: row.get(10)?,
            clock_offset: Millis::from_ms(row.get(11)?),
            running: row.get(12)?,
            shard_groups: row.get(13)?,
        },
    })
}

/// Those of `among` that are not alive.
pub(crate) async fn dead_nodes(context: &StoreContext, among: &[NodeId]) -> Result<Vec<NodeId>> {
    let alive = context
        .meta
        .read("dead_nodes", |tx| {
            Box::pin(async move {
                let sql = tx.conn().sql(NODES_ALIVE);
                let rows = query(&sql).fetch_all(tx.conn()).await?;
                rows.iter().map(|row| row.get(0)).collect::<Result<BTreeSet<i64>>>()
            })
        })
        .await?;
    Ok(among.iter().copied().filter(|node| !alive.contains(&node.get())).collect())
}
