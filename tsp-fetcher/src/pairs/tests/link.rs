//! One node's way to the databases: it takes time, loses answers, and may be cut.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId};
use tsp_store::cluster::{Beat, LeaseStore, NewNode, NodeRow, Pair, PairRow, Pairs, Renewal, RenewedPairs};
use tsp_store::schedule::Owner;
use tsp_store::{Result, StoreError};

use super::world::{World, pass};

pub(super) struct Link {
    pub(super) world: Arc<World>,
    pub(super) index: usize,
}

impl Link {
    /// A call to one database. The leases in memory answer at once, so it is one moment between two
    /// journeys. A dead connection is noticed late, now and then only by the caller's own patience.
    async fn over<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.world.is_cut_somewhere(self.index) && self.world.chance(20) == 0 {
            pass(Duration::from_secs(4)).await;
        }
        self.over_all(call).await
    }

    /// A call to all shard databases, side by side and each with its limit.
    async fn over_all<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.travel().await;
        self.world.set_caller(self.index);
        let answer = call.await;
        self.travel().await;
        answer
    }

    async fn travel(&self) {
        let cut = self.world.is_cut_somewhere(self.index);
        let ms = self.world.chance(15) + if cut { self.world.chance(600) } else { 0 };
        pass(Duration::from_millis(ms)).await;
    }
}

#[async_trait]
impl LeaseStore for Link {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        self.over(self.world.leases.join(node, lease)).await
    }

    async fn renew(&self, node: NodeId, lease: Millis, beat: Beat) -> Result<Renewal> {
        self.over(self.world.leases.renew(node, lease, beat)).await
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        self.over(self.world.leases.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        self.over(self.world.leases.nodes()).await
    }

    async fn bury(&self, node: NodeId, renewals: i64) -> Result<bool> {
        self.over(self.world.leases.bury(node, renewals)).await
    }

    async fn take_id_slot(&self, _: NodeId) -> Result<Option<u8>> {
        Err(StoreError::Internal("no node here takes a slot".to_owned()))
    }

    async fn pairs(&self, groups: &[Name]) -> Result<Pairs> {
        self.over_all(self.world.leases.pairs(groups)).await
    }

    async fn take(&self, seen: &PairRow, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        self.over(self.world.leases.take(seen, node, lease)).await
    }

    async fn renew_pairs(&self, node: NodeId, lease: Millis) -> Result<RenewedPairs> {
        self.over_all(self.world.leases.renew_pairs(node, lease)).await
    }

    async fn give_up(&self, pair: &Pair, owner: Owner) -> Result<()> {
        self.over(self.world.leases.give_up(pair, owner)).await
    }
}
