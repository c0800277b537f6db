//! The other half of a member: the other nodes.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use tsp_core::{ClusterClock, Millis, MonotonicInstant, NodeId};

use super::failure_detector::{FailureDetector, Observation};
use super::leases::{LeaseStore, NodeRow};
use super::peers::Peers;
use crate::error::Result;

pub(super) struct PeerWatch {
    store: Arc<dyn LeaseStore>,
    clock: Arc<ClusterClock>,
    node: NodeId,
    peers: Peers,
    /// Nodes by their renewals.
    watch: FailureDetector<NodeId, i64>,
    known_dead: HashSet<NodeId>,
    /// Not reported yet.
    died: Vec<NodeId>,
}

impl PeerWatch {
    pub(super) fn new(
        store: Arc<dyn LeaseStore>,
        clock: Arc<ClusterClock>,
        node: NodeId,
        lease: Millis,
    ) -> Self {
        Self {
            store,
            clock,
            node,
            peers: Peers::default(),
            watch: FailureDetector::of_lease(lease),
            known_dead: HashSet::new(),
            died: Vec::new(),
        }
    }

    pub(super) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Nodes that died since this was last asked.
    pub(super) fn take_died(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.died)
    }

    pub(super) fn reset(&mut self) {
        self.watch.reset();
    }

    /// Observes all nodes, and marks dead who has not changed for a lease that has expired. May be dropped at
    /// any point: what was decided stands.
    pub(super) async fn step(&mut self, now: MonotonicInstant) -> Result<()> {
        let rows = self.store.nodes().await?;
        let observation = Observation { sent: now, received: self.clock.instant() };
        let alive = rows.iter().filter(|row| row.dead_at.is_none());
        self.watch.observe(observation, alive.map(|row| (row.id, row.renewals)));
        self.note_dead(&rows);
        let gone: Vec<_> =
            rows.iter().filter(|row| self.is_gone(row)).map(|row| (row.id, row.renewals)).collect();
        self.peers.set(rows);
        self.mark_dead(gone).await
    }

    fn note_dead(&mut self, rows: &[NodeRow]) {
        let dead: HashSet<_> = rows.iter().filter(|row| row.dead_at.is_some()).map(|row| row.id).collect();
        self.died.extend(dead.difference(&self.known_dead));
        self.known_dead = dead;
    }

    fn is_gone(&self, row: &NodeRow) -> bool {
        row.id != self.node && row.dead_at.is_none() && row.expired && self.watch.has_failed(&row.id)
    }

    async fn mark_dead(&mut self, gone: Vec<(NodeId, i64)>) -> Result<()> {
        let store = &self.store;
        let marks =
            join_all(gone.into_iter().map(async |(id, renewals)| (id, store.mark_dead(id, renewals).await)))
                .await;
        for (id, marked) in marks {
            if marked? {
                tracing::warn!(node = %id, "a node was marked dead: its lease had expired and was not renewed");
                metrics::counter!("tsp_nodes_buried_total").increment(1);
                self.known_dead.insert(id);
                self.died.push(id);
            }
        }
        Ok(())
    }
}
