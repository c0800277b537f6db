//! Keepers over leases in memory: the plan alone, one keeper by hand, and whole clusters in virtual time.

mod chaos;
mod cluster;
mod gifts;
mod link;
mod one_keeper;
mod spreading;
mod world;
