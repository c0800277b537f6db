//! What the SQL back ends are built of, so that they read side by side: columns and rows, sums, cache edits,
//! counts of touched rows, settings, chunks of fires, and what a search asks.

pub mod cache_edit;
pub mod columns;
pub mod fire_chunks;
pub mod row;
pub mod row_count;
pub mod search;
pub mod settings;
pub mod sums;
