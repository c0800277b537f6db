//! What keeps the processes of a cluster apart: nodes with leases, id slots, and the leases of shards.
//!
//! Nothing here trusts a process's own idea of time beyond its own doings: a lease ends by the clock of the
//! database that holds it, and whoever wants to take one over has also observed no change of it for a whole
//! lease on its own monotonic clock (DESIGN.md section 7).
//!
//! * [`LeaseStore`]: the leases as the databases keep them.
//! * [`Member`]: this process among the nodes: it renews its own lease and marks dead those who do not.
//! * [`FailureDetector`]: who has not changed for a lease what the living change.

mod failure_detector;
mod leases;
mod member;
mod node_lease;
mod peer_watch;
mod peers;
mod renewing;

pub use failure_detector::{FailureDetector, Observation};
pub use leases::{
    Heartbeat, LeaseStore, NewNode, NodeRow, Renewal, RenewedLeases, ShardGroup, ShardGroupLease,
    ShardGroupLeases, answer_within,
};
pub use member::{HeartbeatSource, JoinError, Member, MemberOptions, MemberReport};
pub use node_lease::NodeLease;
pub use peers::Peers;
pub use renewing::{LeaseLoss, LeaseStatus};
