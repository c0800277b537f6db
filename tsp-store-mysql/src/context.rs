//! What all parts of a store share.

use std::sync::Arc;

use futures::future::join_all;
use parking_lot::RwLock;
use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, ShardId, TaskId};
use tsp_store::config_cache::ConfigCache;
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};

use crate::connection::db::{Db, ShardDb};
use crate::connection::own::OwnNode;
use crate::schema::initialise;

/// A data source.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) db: Db,
    /// Connections for leases alone.
    pub(crate) leases: Db,
}

#[derive(Debug)]
pub(crate) struct StoreContext {
    pub(crate) meta: Db,
    pub(crate) config_cache: Arc<ConfigCache>,
    pub(crate) sealer: Sealer,
    pub(crate) shards: u16,
    /// Connections for leases alone, so that they are renewed however busy the others are.
    pub(crate) meta_leases: Db,
    /// Data sources in the order of the options.
    sources: Vec<Source>,
    /// Each shard where it is, by its number.
    shard_dbs: RwLock<Arc<Vec<ShardDb>>>,
    pub(crate) own: Arc<OwnNode>,
    /// The last change of the log that the config cache has.
    pub(crate) followed: tokio::sync::Mutex<i64>,
}

impl StoreContext {
    pub(crate) fn new(
        (meta, meta_leases): (Db, Db),
        sealer: Sealer,
        sources: Vec<Source>,
        shard_dbs: Vec<ShardDb>,
        own: Arc<OwnNode>,
    ) -> Self {
        Self {
            meta,
            meta_leases,
            config_cache: own.config_cache.clone(),
            sealer,
            // At most 512, checked when the options were read.
            shards: u16::try_from(shard_dbs.len()).unwrap_or(u16::MAX),
            sources,
            shard_dbs: RwLock::new(Arc::new(shard_dbs)),
            own,
            followed: tokio::sync::Mutex::new(0),
        }
    }

    fn shard_dbs(&self) -> Arc<Vec<ShardDb>> {
        self.shard_dbs.read().clone()
    }

    /// Reads the shard map again. A shard on a data source that this process does not know stays where it was
    /// thought to be, where its tables are not: its calls fail until the process is started with that source.
    pub(crate) async fn reload_shards(&self) -> Result<()> {
        let mut session = self.meta.conn().await?;
        let stored = initialise::shard_sources(session.raw()?, self.shards).await?;
        let mut shard_dbs = self.shard_dbs().to_vec();
        for (shard_db, name) in shard_dbs.iter_mut().zip(stored) {
            let Some(name) = name.filter(|name| name != shard_db.db.name()) else { continue };
            let shard = shard_db.shard.get();
            let Some(source) = self.sources.iter().find(|source| source.db.name() == name) else {
                tracing::error!(
                    shard,
                    source = name,
                    "a shard has moved to a data source that is not in `store.sources` of this process"
                );
                continue;
            };
            tracing::info!(shard, from = shard_db.db.name(), to = name, "a shard has moved");
            shard_db.db = source.db.clone();
        }
        *self.shard_dbs.write() = Arc::new(shard_dbs);
        Ok(())
    }

    /// Whether a statement found no table since this was last asked: a shard was moved.
    pub(crate) fn take_moved(&self) -> bool {
        // All are asked, so that each is asked once.
        self.sources.iter().filter(|source| source.db.breaker().take_moved()).count() > 0
    }

    /// By the shard map as it is now.
    ///
    /// # Errors
    /// [`StoreError::Internal`] for a shard that this store has not.
    pub(crate) fn shard(&self, shard: ShardId) -> Result<ShardDb> {
        let found = self.shard_dbs.read().get(usize::from(shard.get())).cloned();
        found.ok_or_else(|| StoreError::Internal(format!("there is no shard {}", shard.get())))
    }

    /// Of the shard that the id names; an id of a shard that is not there is unowned.
    pub(crate) fn shard_of(&self, id: TaskId) -> Result<ShardDb> {
        self.shard(id.shard())
    }

    pub(crate) fn all_shards(&self) -> Vec<ShardDb> {
        self.shard_dbs().to_vec()
    }

    /// Each data source with the shards on it.
    pub(crate) fn sources(&self) -> Vec<(Db, Vec<ShardId>)> {
        self.sources.iter().map(|source| (source.db.clone(), self.shards_on(&source.db))).collect()
    }

    /// The connections for leases of each data source, with the shards on it.
    pub(crate) fn lease_sources(&self) -> Vec<(Db, Vec<ShardId>)> {
        self.sources.iter().map(|source| (source.leases.clone(), self.shards_on(&source.db))).collect()
    }

    /// The connections for leases of the data source that holds a shard.
    pub(crate) fn leases_of(&self, shard: ShardId) -> Result<Db> {
        let shard_db = self.shard(shard)?;
        let found = self.sources.iter().find(|source| source.db.is(&shard_db.db));
        found
            .map(|source| source.leases.clone())
            .ok_or_else(|| StoreError::Internal(format!("`{}` is no data source", shard_db.db.name())))
    }

    fn shards_on(&self, source: &Db) -> Vec<ShardId> {
        self.shard_dbs()
            .iter()
            .filter(|shard_db| shard_db.db.is(source))
            .map(|shard_db| shard_db.shard)
            .collect()
    }

    /// All pools.
    pub(crate) fn databases(&self) -> Vec<Db> {
        let sources = self.sources.iter().flat_map(|source| [source.db.clone(), source.leases.clone()]);
        sources.chain([self.meta.clone(), self.meta_leases.clone()]).collect()
    }

    pub(crate) fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.config_cache.config(id)
    }
}

/// Waits for all, then returns the first error. Never cuts one off because another has failed: of the calls
/// for a database that was unavailable one is the probe, and would be the one that is cut off.
pub(crate) async fn all_of<T>(
    parts: impl IntoIterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    join_all(parts).await.into_iter().collect()
}
