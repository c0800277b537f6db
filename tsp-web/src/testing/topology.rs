//! Nodes, shards and queues as a test says they are.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_store::{Cause, StoreError};

use crate::ports::{NodeView, QueueView, ShardsView, Topology};

#[derive(Debug, Default)]
pub(crate) struct FixedTopology {
    pub(crate) nodes: Mutex<Vec<NodeView>>,
    pub(crate) shards: Mutex<ShardsView>,
    pub(crate) queues: Mutex<Vec<QueueView>>,
    away: AtomicBool,
}

impl FixedTopology {
    /// From now on nothing can be found out.
    pub(crate) fn goes_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn comes_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    fn told<T: Clone>(&self, what: &Mutex<T>) -> Result<T, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Cause::Away.because("the test said so"));
        }
        Ok(what.lock().clone())
    }
}

#[async_trait]
impl Topology for FixedTopology {
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        self.told(&self.nodes)
    }

    async fn shards(&self) -> Result<ShardsView, StoreError> {
        self.told(&self.shards)
    }

    async fn queues(&self) -> Result<Vec<QueueView>, StoreError> {
        self.told(&self.queues)
    }
}
