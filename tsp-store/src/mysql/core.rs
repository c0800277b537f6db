//! What all parts of a store share.

use std::sync::Arc;

use futures::future::join_all;
use parking_lot::RwLock;
use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, ShardId, TaskId};

use crate::book::ConfigBook;
use crate::codec::Sealer;
use crate::error::{Result, StoreError};

use super::db::{Db, ShardDb};
use super::own::Own;
use super::settle;

/// A data source.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) db: Db,
    /// Connections for leases alone.
    pub(super) leases: Db,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) meta: Db,
    pub(super) book: Arc<ConfigBook>,
    pub(super) sealer: Sealer,
    pub(super) shards: u16,
    /// Connections for leases alone, so that they are renewed however busy the others are.
    pub(super) meta_leases: Db,
    /// Data sources in the order of the options.
    sources: Vec<Source>,
    /// Each shard where it is, by its number.
    places: RwLock<Arc<Vec<ShardDb>>>,
    pub(super) own: Arc<Own>,
    /// The last change of the log that the book has.
    pub(super) followed: tokio::sync::Mutex<i64>,
}

impl Core {
    pub(super) fn new(
        (meta, meta_leases): (Db, Db),
        sealer: Sealer,
        sources: Vec<Source>,
        places: Vec<ShardDb>,
        own: Arc<Own>,
    ) -> Self {
        Self {
            meta,
            meta_leases,
            book: own.book.clone(),
            sealer,
            // At most 512, checked when the options were read.
            shards: u16::try_from(places.len()).unwrap_or(u16::MAX),
            sources,
            places: RwLock::new(Arc::new(places)),
            own,
            followed: tokio::sync::Mutex::new(0),
        }
    }

    fn places(&self) -> Arc<Vec<ShardDb>> {
        self.places.read().clone()
    }

    /// Reads the shard map again. A shard on a data source that this process does not know stays where it was
    /// thought to be, where its tables are not: its calls fail until the process is started with that source.
    pub(super) async fn reload_places(&self) -> Result<()> {
        let mut session = self.meta.conn().await?;
        let stored = settle::shard_places(session.raw()?, self.shards).await?;
        let mut places = self.places().to_vec();
        for (place, name) in places.iter_mut().zip(stored) {
            let Some(name) = name.filter(|name| name != place.db.name()) else { continue };
            let shard = place.shard.get();
            let Some(source) = self.sources.iter().find(|source| source.db.name() == name) else {
                tracing::error!(
                    shard,
                    source = name,
                    "a shard has moved to a data source that is not in `store.sources` of this process"
                );
                continue;
            };
            tracing::info!(shard, from = place.db.name(), to = name, "a shard has moved");
            place.db = source.db.clone();
        }
        *self.places.write() = Arc::new(places);
        Ok(())
    }

    /// Whether a statement found no table since this was last asked: a shard was moved.
    pub(super) fn take_moved(&self) -> bool {
        // All are asked, so that each is asked once.
        self.sources.iter().filter(|source| source.db.gate().take_moved()).count() > 0
    }

    /// By the shard map as it is now.
    ///
    /// # Errors
    /// [`StoreError::Internal`] for a shard that this store has not.
    pub(super) fn shard(&self, shard: ShardId) -> Result<ShardDb> {
        let found = self.places.read().get(usize::from(shard.get())).cloned();
        found.ok_or_else(|| StoreError::Internal(format!("there is no shard {}", shard.get())))
    }

    /// Of the shard that the id names; an id of a shard that is not there is nobody's.
    pub(super) fn shard_of(&self, id: TaskId) -> Result<ShardDb> {
        self.shard(id.shard())
    }

    pub(super) fn all_shards(&self) -> Vec<ShardDb> {
        self.places().to_vec()
    }

    /// Each data source with the shards on it.
    pub(super) fn sources(&self) -> Vec<(Db, Vec<ShardId>)> {
        self.sources.iter().map(|source| (source.db.clone(), self.shards_on(&source.db))).collect()
    }

    /// The connections for leases of each data source, with the shards on it.
    pub(super) fn lease_sources(&self) -> Vec<(Db, Vec<ShardId>)> {
        self.sources.iter().map(|source| (source.leases.clone(), self.shards_on(&source.db))).collect()
    }

    /// The connections for leases of the data source that holds a shard.
    pub(super) fn leases_of(&self, shard: ShardId) -> Result<Db> {
        let place = self.shard(shard)?;
        let found = self.sources.iter().find(|source| source.db.is(&place.db));
        found
            .map(|source| source.leases.clone())
            .ok_or_else(|| StoreError::Internal(format!("`{}` is no data source", place.db.name())))
    }

    fn shards_on(&self, source: &Db) -> Vec<ShardId> {
        self.places().iter().filter(|place| place.db.is(source)).map(|place| place.shard).collect()
    }

    /// All pools.
    pub(super) fn databases(&self) -> Vec<Db> {
        let sources = self.sources.iter().flat_map(|source| [source.db.clone(), source.leases.clone()]);
        sources.chain([self.meta.clone(), self.meta_leases.clone()]).collect()
    }

    pub(super) fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.book.config(id)
    }
}

/// Waits for all, then tells the first error. Never cuts one off because another has failed: of the calls for
/// a database that was away one looks whether it is back, and would be the one that is cut off.
pub(super) async fn all_of<T>(
    parts: impl IntoIterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    join_all(parts).await.into_iter().collect()
}
