//! A shard goes from one data source to another while it is in use.

pub(crate) mod checksum_diff;
pub(crate) mod cutover;
pub(crate) mod mover;
pub(crate) mod tables;
