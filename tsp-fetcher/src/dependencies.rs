//! What a fetcher is given.

use std::sync::Arc;

use tsp_core::{Entropy, Name};
use tsp_queue::{Inbox, Publisher};
use tsp_store::fetching::Owner;
use tsp_store::{ConfigCache, FetcherStore, IdSource};

use crate::totals::WindowTotals;

/// What a fetcher works with.
#[derive(Clone)]
pub struct FetcherDependencies {
    /// The partition it schedules.
    pub store: Arc<dyn FetcherStore>,
    pub config_cache: Arc<ConfigCache>,
    /// Of the whole store.
    pub shards: u16,
    pub publisher: Arc<dyn Publisher>,
    /// Where all tasks go: configs that name another queue are refused at the API until workers can.
    pub queue: Name,
    pub inbox: Arc<Inbox>,
    pub ids: IdSource,
    pub entropy: Arc<dyn Entropy>,
    pub owner: Owner,
    /// Of all fetchers of the process.
    pub totals: Arc<WindowTotals>,
}

impl std::fmt::Debug for FetcherDependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetcherDependencies").field("owner", &self.owner).finish_non_exhaustive()
    }
}
