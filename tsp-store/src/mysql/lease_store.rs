//! The leases of the cluster: each method where its rows are.

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId};

use crate::cluster::{Beat, LeaseStore, NewNode, NodeRow, Pair, PairRow, Pairs, Renewal, RenewedPairs};
use crate::error::Result;
use crate::schedule::Owner;

use super::{MySqlStore, id_slots, leases, nodes};

#[async_trait]
impl LeaseStore for MySqlStore {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        nodes::join(&self.core, &node, lease).await
    }

    async fn renew(&self, node: NodeId, lease: Millis, beat: Beat) -> Result<Renewal> {
        nodes::renew(&self.core, node, lease, &beat).await
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        nodes::leave(&self.core, node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        nodes::nodes(&self.core).await
    }

    async fn bury(&self, node: NodeId, renewals: i64) -> Result<bool> {
        nodes::bury(&self.core, node, renewals).await
    }

    async fn take_id_slot(&self, node: NodeId) -> Result<Option<u8>> {
        id_slots::take_id_slot(&self.core, node).await
    }

    async fn pairs(&self, groups: &[Name]) -> Result<Pairs> {
        leases::pairs(&self.core, groups).await
    }

    async fn take(&self, seen: &PairRow, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        leases::take(&self.core, seen, node, lease).await
    }

    async fn renew_pairs(&self, node: NodeId, lease: Millis) -> Result<RenewedPairs> {
        leases::renew_pairs(&self.core, node, lease).await
    }

    async fn give_up(&self, pair: &Pair, owner: Owner) -> Result<()> {
        leases::give_up(&self.core, pair, owner).await
    }
}
