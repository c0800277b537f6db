//! The leases of the cluster: each method where its rows are.

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId};
use tsp_store::cluster::{
    Heartbeat, LeaseStore, NewNode, NodeRow, Renewal, RenewedLeases, ShardGroup, ShardGroupLease,
    ShardGroupLeases,
};
use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::MySqlStore;
use crate::membership::id_slots;
use crate::membership::leases;
use crate::membership::nodes;

#[async_trait]
impl LeaseStore for MySqlStore {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        nodes::join(&self.context, &node, lease).await
    }

    async fn renew(&self, node: NodeId, lease: Millis, heartbeat: Heartbeat) -> Result<Renewal> {
        nodes::renew(&self.context, node, lease, &heartbeat).await
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        nodes::leave(&self.context, node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        nodes::nodes(&self.context).await
    }

    async fn mark_dead(&self, node: NodeId, renewals: i64) -> Result<bool> {
        nodes::mark_dead(&self.context, node, renewals).await
    }

    async fn take_id_slot(&self, node: NodeId) -> Result<Option<u8>> {
        id_slots::take_id_slot(&self.context, node).await
    }

    async fn shard_groups(&self, groups: &[Name]) -> Result<ShardGroupLeases> {
        leases::shard_groups(&self.context, groups).await
    }

    async fn take(&self, seen: &ShardGroupLease, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        leases::take(&self.context, seen, node, lease).await
    }

    async fn renew_leases(&self, node: NodeId, lease: Millis) -> Result<RenewedLeases> {
        leases::renew_leases(&self.context, node, lease).await
    }

    async fn give_up(&self, shard_group: &ShardGroup, owner: Owner) -> Result<()> {
        leases::give_up(&self.context, shard_group, owner).await
    }
}
