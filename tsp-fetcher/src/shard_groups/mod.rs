//! This node's share of the shard groups of a cluster.
//!
//! * [`LeaseManager`] renews, takes and gives up; [`ShardGroupHost`] does the work of a shard group.
//! * [`spread`]: which shard group should be whose. Pure.
//! * [`takeover_guard`]: when a shard group may be taken from somebody who does not renew it.

mod host;
mod lease_manager;
mod run;
mod serves;
pub mod spread;
mod state;
pub mod takeover_guard;
#[cfg(test)]
mod tests;
mod work_schedule;

pub use host::ShardGroupHost;
pub use lease_manager::{GroupSource, LeaseManager, LeaseManagerDependencies, LeaseManagerReport};
pub use serves::{FETCHER_ROLE, ServingScope};
