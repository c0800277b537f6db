//! What workers do with rows.

pub(crate) mod batch;
pub(crate) mod begin;
pub(crate) mod finish;
pub(crate) mod store;
