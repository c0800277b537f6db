//! What all parts of a store share.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::RwLock;
use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, ShardId, TaskId};

use crate::book::ConfigBook;
use crate::codec::Sealer;
use crate::error::{Result, StoreError};

use super::db::{Db, ShardDb};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) meta: Db,
    pub(super) book: Arc<ConfigBook>,
    pub(super) sealer: Sealer,
    pub(super) shards: u16,
    /// Data sources in the order of the options.
    sources: Vec<Db>,
    /// Each shard where it is, by its number.
    places: RwLock<Arc<Vec<ShardDb>>>,
    /// This process's node; 0 before it has joined.
    pub(super) node: Arc<AtomicI64>,
    /// The last change of the log that the book has.
    pub(super) followed: tokio::sync::Mutex<i64>,
}

impl Core {
    pub(super) fn new(
        meta: Db,
        sealer: Sealer,
        sources: Vec<Db>,
        places: Vec<ShardDb>,
        node: Arc<AtomicI64>,
    ) -> Self {
        Self {
            meta,
            book: Arc::default(),
            sealer,
            // At most 512, checked when the options were read.
            shards: u16::try_from(places.len()).unwrap_or(u16::MAX),
            sources,
            places: RwLock::new(Arc::new(places)),
            node,
            followed: tokio::sync::Mutex::new(0),
        }
    }

    fn places(&self) -> Arc<Vec<ShardDb>> {
        self.places.read().clone()
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
        let places = self.places();
        let on = |source: &Db| -> Vec<ShardId> {
            places.iter().filter(|place| place.db.is(source)).map(|place| place.shard).collect()
        };
        self.sources.iter().map(|source| (source.clone(), on(source))).collect()
    }

    pub(super) fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.book.config(id)
    }
}
