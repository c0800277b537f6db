//! What is checked and made when a store is opened.

pub(crate) mod initialise;
pub(crate) mod migrate;
