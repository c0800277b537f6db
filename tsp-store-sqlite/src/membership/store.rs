//! The one owner of all shards.

use async_trait::async_trait;
use tsp_core::{NodeId, Timestamp};
use tsp_store::error::Result;
use tsp_store::fetching::{EmbeddedOwnership, Owner};

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::membership::leases;
use crate::membership::nodes;

#[async_trait]
impl EmbeddedOwnership for SqliteStore {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        let name = name.to_owned();
        self.write(Command::RegisterNode, 1, move |tx| nodes::register_node(tx, &name, now)).await
    }

    async fn take_shards(&self, node: NodeId, now: Timestamp) -> Result<Owner> {
        self.write(Command::TakeShards, 1, move |tx| leases::take_shards(tx, node, now)).await
    }
}
