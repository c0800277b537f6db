//! What the wiring hands in so that this crate needs to know no other role.

use async_trait::async_trait;
use tsp_core::{ConfigId, Millis, ShardId, Timestamp};

/// Tells the fetcher what it would otherwise find by itself a little later. A lost hint costs time only.
pub trait WakeHints: Send + Sync + std::fmt::Debug {
    /// A task of `config` on `shard` is due at `due_at`, perhaps before everything known.
    fn wake(&self, config: ConfigId, shard: ShardId, due_at: Timestamp);

    /// The config was made, changed, held, let go or deleted.
    fn config_changed(&self, config: ConfigId);
}

/// Whether this process may take traffic.
pub trait Readiness: Send + Sync + std::fmt::Debug {
    /// What is missing, in words without addresses; empty when ready.
    fn missing(&self) -> Vec<String>;
}

/// What only the development server can do.
#[async_trait]
pub trait DevHooks: Send + Sync + std::fmt::Debug {
    /// Moves the virtual clock, from due time to due time, and returns when all that fired has ended.
    async fn advance_clock(&self, by: Millis) -> Advanced;
}

/// Where a move of the virtual clock has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    pub now: Timestamp,
    /// How many callbacks were started on the way.
    pub fired: u64,
}
