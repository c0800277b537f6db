//! The deployment mode of a cluster: sharded MySQL or MariaDB, NSQ, and any number of processes with roles.
//!
//! * `store`, `queue`: the back ends. `membership`: this process among the others. `fetchers`: the shard groups that it
//!   owns. `state`: what they share. `running`: all of it together.

mod fetchers;
mod groups;
mod membership;
mod open;
mod queue;
mod running;
mod state;
mod store;
mod topology;

pub(super) use open::open;
pub(super) use running::RunningCluster;
pub(super) use state::Cluster;
pub(super) use store::open_store;
pub(crate) use store::{migrate, options};
pub(super) use topology::ClusterTopology;
