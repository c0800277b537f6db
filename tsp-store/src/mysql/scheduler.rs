//! What is scheduled by the owner of one pair.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::task::Task;
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};

use crate::cluster::Pair;
use crate::error::Result;
use crate::parks::{Park, ParkNews};
use crate::schedule::{
    Audit, Claimed, Cursor, Fire, Fired, FlightMark, Head, InFlightPage, Owner, Partition, ScheduleStore,
    Want,
};

use super::core::Core;
use super::group_rows::GroupRows;
use super::policy::Walk;
use super::{audit, claim, fire, nodes, parks, prune, rescue};

/// A [`ScheduleStore`] for the configs of one group on one shard. Cheap to make; what it remembers is only
/// how far the clearing away of old attempts is.
#[derive(Debug)]
pub struct MySqlScheduler {
    rows: GroupRows,
    walk: Mutex<Walk>,
}

impl MySqlScheduler {
    pub(super) fn new(core: Arc<Core>, pair: Pair) -> Self {
        Self { rows: GroupRows { core, pair }, walk: Mutex::default() }
    }

    /// How many rows of the shard are open, by the auditor's sums; 0 where others give them.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`] when its database is away.
    pub async fn open_rows(&self) -> Result<i64> {
        if self.rows.is_default() { audit::open_by_sums(&self.rows.shard()?).await } else { Ok(0) }
    }
}

#[async_trait]
impl ScheduleStore for MySqlScheduler {
    fn partition(&self) -> Partition {
        Partition::Pair(self.rows.pair.clone())
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        nodes::dead_nodes(&self.rows.core, among).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        claim::heads(&self.rows).await
    }

    async fn claim(&self, owner: Owner, wants: Vec<Want>, now: Timestamp) -> Result<Claimed> {
        claim::claim(&self.rows, owner, &wants, now).await
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        claim::in_flight(&self.rows, after, limit).await
    }

    async fn rearm(&self, owner: Owner, rows: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        rescue::rearm(&self.rows, owner, &rows, now).await
    }

    async fn lose(&self, owner: Owner, rows: Vec<(TaskId, NodeId)>, now: Timestamp) -> Result<Vec<Task>> {
        rescue::lose(&self.rows, owner, &rows, now).await
    }

    async fn end_waits(&self, owner: Owner, limit: usize, unit: f64, now: Timestamp) -> Result<Vec<Task>> {
        rescue::end_waits(&self.rows, owner, limit, unit, now).await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        rescue::next_deadline(&self.rows).await
    }

    async fn parks(&self, anew: bool, now: Timestamp) -> Result<Vec<Park>> {
        parks::parks(&self.rows, anew, now).await
    }

    async fn save_parks(&self, news: Vec<ParkNews>) -> Result<()> {
        parks::save(&self.rows, &news).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        fire::cursors(&self.rows).await
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        fire::cursors_of(&self.rows, configs).await
    }

    async fn fire(&self, owner: Owner, fire: Fire, now: Timestamp) -> Result<Fired> {
        fire::fire(&self.rows, owner, &fire, now).await
    }

    async fn prune(&self, limit: usize, now: Timestamp) -> Result<usize> {
        prune::prune(&self.rows, &self.walk, limit, now).await
    }

    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        audit::audit(&self.rows, now).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        audit::next_due(&self.rows).await
    }
}
