//! Receivers that asked for a wait of a whole config (429 and 503 with `Retry-After`).
//!
//! The owner of each shard that may hold tasks of the config keeps it beside them, so that a takeover and a
//! restart begin with it, and whoever ends it writes to all of these shards. So the owner goes by its own
//! shard only, and an event that is lost costs no more than its next resync.

use tsp_core::{ConfigId, Millis, TaskId, Timestamp};

/// A config is parked: nothing of it begins before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Park {
    pub config: ConfigId,
    /// When that was asked for. An end since then counts, and an earlier one does not.
    pub since: Timestamp,
    pub until: Timestamp,
    /// The task whose callback was answered so.
    pub by: TaskId,
}

/// What is to be kept of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkEvent {
    /// The longest wait counts.
    Asked(Park),
    /// What was asked for until `at` is over.
    Ended { config: ConfigId, at: Timestamp },
}

/// What is kept is dropped so long after its end.
pub const KEPT: Millis = Millis::from_days(1);
