//! What workers do with rows, under the lease of their process.

pub(crate) mod batch;
pub(crate) mod begin;
pub(crate) mod finish;
pub(crate) mod store;
