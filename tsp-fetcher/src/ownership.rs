//! What is fetched from here, and whether it still is ours.

use tsp_core::config::TaskConfig;
use tsp_store::ScheduleStore;
use tsp_store::schedule::Partition;

#[derive(Debug)]
pub(crate) struct ShardOwnership {
    partition: Partition,
    /// Of the whole store.
    shards: u16,
    deposed: bool,
}

impl ShardOwnership {
    pub(crate) fn of(store: &dyn ScheduleStore, shards: u16) -> Self {
        Self { partition: store.partition(), shards, deposed: false }
    }

    /// Whether tasks of `config` may be scheduled here.
    pub(crate) fn holds(&self, config: &TaskConfig) -> bool {
        self.partition.holds(config)
    }

    /// Whether its tasks may be here, as its span is now.
    pub(crate) fn covers(&self, config: &TaskConfig) -> bool {
        self.partition.covers(config, self.shards)
    }

    /// Whether it has a schedule whose cursor is here.
    pub(crate) fn schedules(&self, config: &TaskConfig) -> bool {
        config.spec.schedule.is_some() && self.partition.schedules(config, self.shards)
    }

    /// The answer to a write that is fenced.
    pub(crate) fn note(&mut self, deposed: bool) {
        self.deposed |= deposed;
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.deposed
    }
}
