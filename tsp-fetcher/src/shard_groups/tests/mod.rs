//! Lease managers over leases in memory: the plan alone, one by hand, and whole clusters in virtual time.

mod chaos;
mod cluster;
mod handovers;
mod harness;
mod link;
mod one_manager;
mod spreading;
