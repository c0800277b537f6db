//! What is fetched from here, and whether it still is ours.

use tsp_core::config::TaskConfig;
use tsp_store::FetcherStore;
use tsp_store::fetching::FetchScope;

#[derive(Debug)]
pub(crate) struct ShardOwnership {
    fetch_scope: FetchScope,
    /// Of the whole store.
    shards: u16,
    deposed: bool,
}

impl ShardOwnership {
    pub(crate) fn of(store: &dyn FetcherStore, shards: u16) -> Self {
        Self { fetch_scope: store.fetch_scope(), shards, deposed: false }
    }

    /// Whether tasks of `config` may be scheduled here.
    pub(crate) fn holds(&self, config: &TaskConfig) -> bool {
        self.fetch_scope.holds(config)
    }

    /// Whether its tasks may be here, as its span is now.
    pub(crate) fn covers(&self, config: &TaskConfig) -> bool {
        self.fetch_scope.covers(config, self.shards)
    }

    /// Whether it has a schedule whose cursor is here.
    pub(crate) fn schedules(&self, config: &TaskConfig) -> bool {
        config.spec.schedule.is_some() && self.fetch_scope.schedules(config, self.shards)
    }

    /// The answer to a write that is fenced.
    pub(crate) fn note(&mut self, deposed: bool) {
        self.deposed |= deposed;
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.deposed
    }
}
