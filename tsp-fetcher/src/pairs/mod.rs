//! This node's share of the (group, shard) pairs of a cluster.
//!
//! * [`PairKeeper`] renews, takes and gives up; [`PairHost`] does the work of a pair.
//! * [`spread`]: which pair should be whose. Pure.
//! * [`watch`]: when a pair may be taken from somebody who does not renew it.

mod host;
mod keeper;
mod run;
mod serves;
pub mod spread;
mod state;
#[cfg(test)]
mod tests;
pub mod watch;

pub use host::PairHost;
pub use keeper::{GroupSource, KeeperParts, KeeperReport, PairKeeper};
pub use serves::{FETCHER_ROLE, Serves};
