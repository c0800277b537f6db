//! What a fetcher is given.

use std::sync::Arc;

use tsp_core::{Entropy, Millis, Name};
use tsp_queue::{Inbox, Publisher};
use tsp_store::fetching::Owner;
use tsp_store::{ConfigCache, FetcherStore, IdSource};

use crate::totals::WindowTotals;
use crate::window::WindowLimits;

#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// Rows are claimed up to this long before their time.
    pub lookahead: Millis,
    /// At high rates messages are published in ticks of this length; a lone one goes at once.
    pub publish_tick: Millis,
    /// How often memory is compared with the rows.
    pub resync: Millis,
    /// A message without feedback for this long is sent again; doubled for each repeat of a task.
    pub pipe_timeout: Millis,
    /// After the event that a part of the pipe was lost, what was in the pipe by then is sent again when
    /// there is no feedback on it for this long.
    pub lost_timeout: Millis,
    pub window: WindowLimits,
}

impl Default for FetcherOptions {
    fn default() -> Self {
        Self {
            lookahead: Millis::from_secs(1),
            publish_tick: Millis::from_ms(1),
            resync: Millis::from_secs(5),
            pipe_timeout: Millis::from_secs(30),
            lost_timeout: Millis::from_secs(2),
            window: WindowLimits::default(),
        }
    }
}

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
