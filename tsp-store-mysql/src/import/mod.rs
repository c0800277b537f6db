//! An embedded store becomes a cluster.

pub(crate) mod importer;
pub(crate) mod state;
pub(crate) mod tables;
pub(crate) mod target;
