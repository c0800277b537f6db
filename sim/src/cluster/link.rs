//! The leases as one node reaches them: through weather.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId};
use tsp_store::Result;
use tsp_store::cluster::{
    Heartbeat, LeaseStore, NewNode, NodeRow, Renewal, RenewedLeases, ShardGroup, ShardGroupLease,
    ShardGroupLeases,
};
use tsp_store::fetching::Owner;
use tsp_store_testing::memory::MemoryLeases;

use crate::weather::{Kind, Weather};

#[derive(Clone)]
pub(super) struct Link {
    pub(super) leases: Arc<MemoryLeases>,
    pub(super) weather: Arc<Weather>,
}

impl Link {
    async fn ask<T: Send>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.weather.ask((call, Kind::Write), Vec::new(), work).await
    }
}

#[async_trait]
impl LeaseStore for Link {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        let leases = self.leases.clone();
        self.ask("join", async move { leases.join(node, lease).await }).await
    }

    async fn renew(&self, node: NodeId, lease: Millis, heartbeat: Heartbeat) -> Result<Renewal> {
        let leases = self.leases.clone();
        self.ask("renew", async move { leases.renew(node, lease, heartbeat).await }).await
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        let leases = self.leases.clone();
        self.ask("leave", async move { leases.leave(node).await }).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        let leases = self.leases.clone();
        self.ask("nodes", async move { leases.nodes().await }).await
    }

    async fn mark_dead(&self, node: NodeId, renewals: i64) -> Result<bool> {
        let leases = self.leases.clone();
        self.ask("bury", async move { leases.mark_dead(node, renewals).await }).await
    }

    async fn take_id_slot(&self, node: NodeId) -> Result<Option<u8>> {
        let leases = self.leases.clone();
        self.ask("take_id_slot", async move { leases.take_id_slot(node).await }).await
    }

    async fn shard_groups(&self, groups: &[Name]) -> Result<ShardGroupLeases> {
        let (leases, groups) = (self.leases.clone(), groups.to_vec());
        self.ask("pairs", async move { leases.shard_groups(&groups).await }).await
    }

    async fn take(&self, seen: &ShardGroupLease, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        let (leases, seen) = (self.leases.clone(), seen.clone());
        self.ask("take", async move { leases.take(&seen, node, lease).await }).await
    }

    async fn renew_leases(&self, node: NodeId, lease: Millis) -> Result<RenewedLeases> {
        let leases = self.leases.clone();
        self.ask("renew_pairs", async move { leases.renew_leases(node, lease).await }).await
    }

    async fn give_up(&self, shard_group: &ShardGroup, owner: Owner) -> Result<()> {
        let (leases, shard_group) = (self.leases.clone(), shard_group.clone());
        self.ask("give_up", async move { leases.give_up(&shard_group, owner).await }).await
    }
}
