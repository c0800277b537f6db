//! Nodes, their leases, and slots of ids.

pub(crate) mod id_slots;
pub(crate) mod leases;
pub(crate) mod nodes;
pub(crate) mod store;
