//! The deployment mode of a cluster: sharded MySQL or MariaDB, NSQ, and any number of processes with roles.
//!
//! * `store`, `queue`: the back ends. `membership`: this process among the others. `fetchers`: the shard groups that it
//!   owns. `state`: what they share. `running`: all of it together.
//!   `offline`: what commands do.

mod fetchers;
mod groups;
mod membership;
pub(crate) mod offline;
mod open;
mod queue;
mod running;
mod state;
mod store;
mod topology;

pub(super) use open::open;
pub(super) use running::RunningCluster;
pub(super) use state::Cluster;
pub(crate) use store::migrate;
pub(super) use store::open_store;
pub(super) use topology::topology;
pub(super) use tsp_queue::nsq::{KnownNsqds, NsqSubscriber};
