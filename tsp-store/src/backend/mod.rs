//! What the SQL back ends are built of, so that they read side by side: columns and rows, sums, cache edits,
//! counts of touched rows, settings, and what a search asks.

pub(crate) mod cache_edit;
pub(crate) mod columns;
pub(crate) mod row;
pub(crate) mod row_count;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod search;
pub(crate) mod settings;
pub(crate) mod sums;
