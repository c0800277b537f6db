//! What keeps the processes of a cluster apart: nodes with leases, id slots, and the leases of shards.
//!
//! Nothing here trusts a process's own idea of time beyond its own doings: a lease ends by the clock of the
//! database that holds it, and whoever wants to take one over has also watched it stand still for a whole
//! lease on its own monotonic clock (DESIGN.md section 7).
//!
//! * [`LeaseStore`]: the leases as the databases keep them.
//! * [`Member`]: a process's place among the nodes: it renews its own lease and buries those who do not.
//! * [`StillWatch`]: since when something that the living change has stood still.

mod leases;
mod member;
mod node_lease;
mod peers;
mod renewing;
mod still_watch;
#[cfg(test)]
mod tests;
mod watching;

pub use leases::{
    Beat, LeaseStore, NewNode, NodeRow, Pair, PairRow, Pairs, Renewal, RenewedPairs, answer_within,
};
pub use member::{BeatSource, JoinError, Member, MemberOptions, MemberReport};
pub use node_lease::NodeLease;
pub use peers::Peers;
pub use renewing::{Lost, Standing};
pub use still_watch::{Look, StillWatch};
