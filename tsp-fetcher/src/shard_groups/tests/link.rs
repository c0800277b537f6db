//! One node's way to the databases: it takes time, loses answers, and may be cut.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId};
use tsp_store::cluster::{
    Heartbeat, LeaseStore, NewNode, NodeRow, Renewal, RenewedLeases, ShardGroup, ShardGroupLease,
    ShardGroupLeases,
};
use tsp_store::fetching::Owner;
use tsp_store::{Result, StoreError};

use super::harness::{Harness, pass};

pub(super) struct Link {
    pub(super) harness: Arc<Harness>,
    pub(super) index: usize,
}

impl Link {
    /// A call to one database. The leases in memory answer at once, so it is one moment between two
    /// journeys. A dead connection is noticed late, now and then only by the caller's own patience.
    async fn over<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.harness.is_cut_somewhere(self.index) && self.harness.rng(20) == 0 {
            pass(Duration::from_secs(4)).await;
        }
        self.over_all(call).await
    }

    /// A call to all shard databases, side by side and each with its limit.
    async fn over_all<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.travel().await;
        self.harness.set_caller(self.index);
        let answer = call.await;
        self.travel().await;
        answer
    }

    async fn travel(&self) {
        let cut = self.harness.is_cut_somewhere(self.index);
        let ms = self.harness.rng(15) + if cut { self.harness.rng(600) } else { 0 };
        pass(Duration::from_millis(ms)).await;
    }
}

#[async_trait]
impl LeaseStore for Link {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        self.over(self.harness.leases.join(node, lease)).await
    }

    async fn renew(&self, node: NodeId, lease: Millis, heartbeat: Heartbeat) -> Result<Renewal> {
        self.over(self.harness.leases.renew(node, lease, heartbeat)).await
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        self.over(self.harness.leases.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        self.over(self.harness.leases.nodes()).await
    }

    async fn mark_dead(&self, node: NodeId, renewals: i64) -> Result<bool> {
        self.over(self.harness.leases.mark_dead(node, renewals)).await
    }

    async fn take_id_slot(&self, _: NodeId) -> Result<Option<u8>> {
        Err(StoreError::Internal("no node here takes a slot".to_owned()))
    }

    async fn shard_groups(&self, groups: &[Name]) -> Result<ShardGroupLeases> {
        self.harness.observed().await;
        self.over_all(self.harness.leases.shard_groups(groups)).await
    }

    async fn take(&self, seen: &ShardGroupLease, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        self.over(self.harness.leases.take(seen, node, lease)).await
    }

    async fn renew_leases(&self, node: NodeId, lease: Millis) -> Result<RenewedLeases> {
        self.over_all(self.harness.leases.renew_leases(node, lease)).await
    }

    async fn give_up(&self, shard_group: &ShardGroup, owner: Owner) -> Result<()> {
        self.over(self.harness.leases.give_up(shard_group, owner)).await
    }
}
