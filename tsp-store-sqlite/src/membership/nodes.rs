//! Nodes: one row for each process since its start.

use rusqlite::params;
use tsp_core::{NodeId, Timestamp};
use tsp_store::error::Result;

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    NODE_MARK_DEAD = "-- node_bury\nUPDATE node SET dead_at = ? WHERE dead_at IS NULL";
    NODE_INSERT = "-- node_insert\nINSERT INTO node (name, started_at) VALUES (?, ?)";
    NODE_ALIVE = "-- node_alive\nSELECT id FROM node WHERE dead_at IS NULL";
}

pub(crate) fn register_node(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> Result<NodeId> {
    // The lock file says that no other process serves this database, so all earlier nodes are gone.
    tx.conn.prepare(NODE_MARK_DEAD)?.execute([now.ms()])?;
    tx.conn.insert(NODE_INSERT, params![name, now.ms()]).map(NodeId::new)
}

pub(crate) fn dead_nodes(conn: Session<'_>, among: Vec<NodeId>) -> Result<Vec<NodeId>> {
    let mut statement = conn.prepare(NODE_ALIVE)?;
    let alive: Vec<i64> = statement.all([], |row| row.get(0))?;
    Ok(among.into_iter().filter(|node| !alive.contains(&node.get())).collect())
}
