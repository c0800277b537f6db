//! What is scheduled by the owner of one shard group.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::task::Task;
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::backend::fire_chunks::fire_in_chunks;
use tsp_store::cluster::ShardGroup;
use tsp_store::error::Result;
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, FetchScope, FetcherStore, Fire,
    FireResult, FlightMark, InFlightPage, Owner, RetentionStore,
};
use tsp_store::parks::{Park, ParkEvent};

use crate::context::StoreContext;
use crate::fetching::auditor;
use crate::fetching::claim;
use crate::fetching::fire;
use crate::fetching::group_rows::GroupRows;
use crate::fetching::parks;
use crate::fetching::rescue;
use crate::membership::nodes;
use crate::retention::old_rows;
use crate::retention::whole_days::RetentionScan;

/// A [`FetcherStore`] for the configs of one group on one shard. Cheap to make; what it remembers is only
/// how far retention of old attempts is.
#[derive(Debug)]
pub struct MySqlFetcherStore {
    rows: GroupRows,
    scan: Mutex<RetentionScan>,
}

impl MySqlFetcherStore {
    pub(crate) fn new(context: Arc<StoreContext>, shard_group: ShardGroup) -> Self {
        Self { rows: GroupRows { context, shard_group }, scan: Mutex::default() }
    }

    /// How many rows of the shard are open, by the auditor's sums; 0 where others give them.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unavailable`] when its database is.
    pub async fn open_rows(&self) -> Result<i64> {
        if self.rows.is_default() { auditor::open_by_sums(&self.rows.shard()?).await } else { Ok(0) }
    }
}

#[async_trait]
impl FetcherStore for MySqlFetcherStore {
    fn fetch_scope(&self) -> FetchScope {
        FetchScope::ShardGroup(self.rows.shard_group.clone())
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        nodes::dead_nodes(&self.rows.context, among).await
    }

    async fn earliest_due(&self) -> Result<Vec<EarliestDue>> {
        claim::earliest_due(&self.rows).await
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        claim::claim(&self.rows, owner, &requests, now).await
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        claim::in_flight(&self.rows, after, limit).await
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        rescue::return_to_scheduled(&self.rows, owner, &rows, now).await
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        rescue::mark_worker_lost(&self.rows, owner, &rows, now).await
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        rescue::end_waits(&self.rows, owner, limit, jitter_fraction, now).await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        rescue::next_deadline(&self.rows).await
    }

    async fn parks(&self, reread: bool, now: Timestamp) -> Result<Vec<Park>> {
        parks::parks(&self.rows, reread, now).await
    }

    async fn save_parks(&self, events: Vec<ParkEvent>) -> Result<()> {
        parks::save(&self.rows, &events).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        fire::cursors(&self.rows).await
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        fire::cursors_of(&self.rows, configs).await
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        let rows = &self.rows;
        let take = |fires: Arc<[Fire]>| async move { fire::fire(rows, owner, &fires, now).await };
        fire_in_chunks(fires, take).await
    }
}

#[async_trait]
impl RetentionStore for MySqlFetcherStore {
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        old_rows::apply_retention(&self.rows, &self.scan, limit, now).await
    }
}

#[async_trait]
impl AuditorStore for MySqlFetcherStore {
    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        auditor::audit(&self.rows, now).await
    }
}
