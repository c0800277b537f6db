//! What is scheduled by the owner of one pair.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::Row as _;
use tsp_core::config::TaskConfig;
use tsp_core::name::DEFAULT_LANE;
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
use super::db::ShardDb;
use super::prune::Walk;
use super::session::query;
use super::{audit, claim, fire, parks, prune, rescue};

/// A [`ScheduleStore`] for the configs of one group on one shard. Cheap to make; what it remembers is only
/// how far the clearing away of old attempts is.
#[derive(Debug)]
pub struct MySqlScheduler {
    pub(super) core: Arc<Core>,
    pub(super) pair: Pair,
    pub(super) walk: Mutex<Walk>,
}

impl MySqlScheduler {
    pub(super) fn new(core: Arc<Core>, pair: Pair) -> Self {
        Self { core, pair, walk: Mutex::default() }
    }

    pub(super) fn shard(&self) -> Result<ShardDb> {
        self.core.shard(self.pair.shard)
    }

    /// Whether this pair's owner cares for what belongs to no config, to one that is not known here, or to all.
    pub(super) fn is_default(&self) -> bool {
        self.pair.group.as_str() == DEFAULT_LANE
    }

    /// Whether a row of this config is the pair's.
    pub(super) fn is_mine(&self, config: ConfigId) -> bool {
        self.core.config(config).map_or(self.is_default(), |config| config.spec.group == self.pair.group)
    }

    /// How many rows of the shard are open, by the auditor's sums; 0 where others give them.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`] when its database is away.
    pub async fn open_rows(&self) -> Result<i64> {
        if self.is_default() { audit::open_by_sums(&self.shard()?).await } else { Ok(0) }
    }

    /// Whether the cursor of `config` is on the pair's shard.
    pub(super) fn schedules(&self, config: &TaskConfig) -> bool {
        self.partition().schedules(config, self.core.shards)
    }

    /// The first due time of each config of the pair, of rows that `template` chooses.
    pub(super) async fn firsts(&self, name: &'static str, template: &'static str) -> Result<Vec<Head>> {
        let shard = &self.shard()?;
        let rows = shard
            .read(name, move |tx| {
                Box::pin(async move { query(&shard.sql(template)).fetch_all(tx.conn()).await })
            })
            .await?;
        let mut firsts = Vec::with_capacity(rows.len());
        for row in &rows {
            let config = ConfigId::new(row.try_get(0)?);
            if self.is_mine(config) {
                firsts.push(Head { config, due_at: Timestamp::from_ms(row.try_get(1)?) });
            }
        }
        Ok(firsts)
    }
}

#[async_trait]
impl ScheduleStore for MySqlScheduler {
    fn partition(&self) -> Partition {
        Partition::Pair(self.pair.clone())
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        claim::dead_nodes(&self.core, among).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        claim::heads(self).await
    }

    async fn claim(&self, owner: Owner, wants: Vec<Want>, now: Timestamp) -> Result<Claimed> {
        claim::claim(self, owner, &wants, now).await
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        claim::in_flight(self, after, limit).await
    }

    async fn rearm(&self, owner: Owner, rows: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        rescue::rearm(self, owner, &rows, now).await
    }

    async fn lose(&self, owner: Owner, rows: Vec<(TaskId, NodeId)>, now: Timestamp) -> Result<Vec<Task>> {
        rescue::lose(self, owner, &rows, now).await
    }

    async fn end_waits(&self, owner: Owner, limit: usize, unit: f64, now: Timestamp) -> Result<Vec<Task>> {
        rescue::end_waits(self, owner, limit, unit, now).await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        rescue::next_deadline(self).await
    }

    async fn parks(&self, anew: bool, now: Timestamp) -> Result<Vec<Park>> {
        parks::parks(self, anew, now).await
    }

    async fn save_parks(&self, news: Vec<ParkNews>) -> Result<()> {
        parks::save(self, &news).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        fire::cursors(self).await
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        fire::cursors_of(self, configs).await
    }

    async fn fire(&self, owner: Owner, fire: Fire, now: Timestamp) -> Result<Fired> {
        fire::fire(self, owner, &fire, now).await
    }

    async fn prune(&self, limit: usize, now: Timestamp) -> Result<usize> {
        prune::prune(self, limit, now).await
    }

    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        audit::audit(self, now).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        audit::next_due(self).await
    }
}
