//! Nodes: one row for each process since its start.

use rusqlite::{Connection, params};
use tsp_core::{NodeId, Timestamp};

use crate::backend::row_count::exactly_one;
use crate::error::Result;

use super::row::all;
use super::tx::Tx;

pub(super) fn register_node(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> Result<NodeId> {
    // The lock file says that no other process serves this database, so all earlier nodes are gone.
    tx.conn
        .prepare_cached("-- node_bury\nUPDATE node SET dead_at = ? WHERE dead_at IS NULL")?
        .execute([now.ms()])?;
    let changed = tx
        .conn
        .prepare_cached("-- node_insert\nINSERT INTO node (name, started_at) VALUES (?, ?)")?
        .execute(params![name, now.ms()])?;
    exactly_one(changed, "node_insert")?;
    Ok(NodeId::new(tx.conn.last_insert_rowid()))
}

pub(super) fn dead_nodes(conn: &Connection, among: Vec<NodeId>) -> Result<Vec<NodeId>> {
    let mut statement = conn.prepare_cached("-- node_alive\nSELECT id FROM node WHERE dead_at IS NULL")?;
    let alive: Vec<i64> = all(statement.query([])?, |row| Ok(row.get(0)?))?;
    Ok(among.into_iter().filter(|node| !alive.contains(&node.get())).collect())
}
