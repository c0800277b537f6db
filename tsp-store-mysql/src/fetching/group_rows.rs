//! The rows of one group on one shard: which they are, and what all reads of them share.

use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::name::DEFAULT_QUEUE;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::cluster::ShardGroup;
use tsp_store::error::Result;
use tsp_store::fetching::{EarliestDue, FetchScope};

use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::context::StoreContext;

#[derive(Debug)]
pub(crate) struct GroupRows {
    pub(crate) context: Arc<StoreContext>,
    pub(crate) shard_group: ShardGroup,
}

impl GroupRows {
    pub(crate) fn shard(&self) -> Result<ShardDb> {
        self.context.shard(self.shard_group.shard)
    }

    /// Whether this shard group's owner cares for what belongs to no config, to one that is not known here, or to all.
    pub(crate) fn is_default(&self) -> bool {
        self.shard_group.group.as_str() == DEFAULT_QUEUE
    }

    /// Whether a row of this config is the shard group's.
    pub(crate) fn is_mine(&self, config: ConfigId) -> bool {
        self.context
            .config(config)
            .map_or(self.is_default(), |config| config.spec.group == self.shard_group.group)
    }

    /// Whether the cursor of `config` is on the shard group's shard.
    pub(crate) fn schedules(&self, config: &TaskConfig) -> bool {
        FetchScope::ShardGroup(self.shard_group.clone()).schedules(config, self.context.shards)
    }

    /// Whether `config` has rows on the shard group's shard.
    pub(crate) fn covers(&self, config: &TaskConfig) -> bool {
        FetchScope::ShardGroup(self.shard_group.clone()).covers(config, self.context.shards)
    }

    /// The first due time of each config of the shard group, of rows that `template` chooses.
    pub(crate) async fn firsts(
        &self,
        name: &'static str,
        template: &'static str,
    ) -> Result<Vec<EarliestDue>> {
        let shard = &self.shard()?;
        let rows = shard
            .read(name, move |tx| {
                Box::pin(async move { query(&shard.sql(template)).fetch_all(tx.conn()).await })
            })
            .await?;
        let mut firsts = Vec::with_capacity(rows.len());
        for row in &rows {
            let (config, due_at) = (ConfigId::new(row.get(0)?), row.get::<Option<i64>>(1)?);
            if let Some(due_at) = due_at.map(Timestamp::from_ms).filter(|_| self.is_mine(config)) {
                firsts.push(EarliestDue { config, due_at });
            }
        }
        Ok(firsts)
    }
}
