//! The rows of one group on one shard: which they are, and what all reads of them share.

use std::sync::Arc;

use sqlx::Row as _;
use tsp_core::config::TaskConfig;
use tsp_core::name::DEFAULT_LANE;
use tsp_core::{ConfigId, Timestamp};

use crate::cluster::Pair;
use crate::error::Result;
use crate::schedule::{Head, Partition};

use super::core::Core;
use super::db::ShardDb;
use super::session::query;

#[derive(Debug)]
pub(super) struct GroupRows {
    pub(super) core: Arc<Core>,
    pub(super) pair: Pair,
}

impl GroupRows {
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

    /// Whether the cursor of `config` is on the pair's shard.
    pub(super) fn schedules(&self, config: &TaskConfig) -> bool {
        Partition::Pair(self.pair.clone()).schedules(config, self.core.shards)
    }

    /// Whether `config` has rows on the pair's shard.
    pub(super) fn covers(&self, config: &TaskConfig) -> bool {
        Partition::Pair(self.pair.clone()).covers(config, self.core.shards)
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
