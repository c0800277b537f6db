//! What the owner of the shards does with its rows.

pub(crate) mod auditor;
pub(crate) mod claim;
pub(crate) mod fence;
pub(crate) mod fire;
pub(crate) mod parks;
pub(crate) mod rescue;
pub(crate) mod store;
