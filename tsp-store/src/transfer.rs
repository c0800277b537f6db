//! How a store hands all its rows to another one: neither knows more of the other than this.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tsp_core::Timestamp;

use crate::error::Result;

pub use crate::documents::Sealer;

/// A value of a row. Bookmarks are stored in its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// A table, the columns that are read, and those of its primary key, which stand first.
#[derive(Debug, Clone, Copy)]
pub struct TableColumns {
    pub table: &'static str,
    pub columns: &'static str,
    pub keys: &'static [&'static str],
}

/// Rows, each with a cell for each column.
pub type Page = Vec<Vec<Cell>>;

/// The auditor's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    pub accepted: i64,
    pub ended: i64,
    pub dropped: i64,
}

/// What rows are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// All under 0.
    Table,
    /// The shard that the id in `task_id` names.
    TaskShard,
    /// The column `shard`.
    Shard,
    /// The column `config_id`.
    Config,
}

/// A store that is read out. Rows leave as they stand, a page after the other in the order of their keys, so that it
/// goes on from a bookmark.
#[async_trait]
pub trait ExportSource: Send + Sync {
    /// Tells this store from all others: copies of it give the same.
    async fn identity(&self) -> Result<String>;

    fn shard_count(&self) -> u16;

    /// Of the secrets in its rows.
    fn sealer(&self) -> &Sealer;

    /// Gives back what earlier processes had claimed or begun, as the next server at its start would.
    async fn release_all(&self, now: Timestamp) -> Result<()>;

    /// The last id that a process was given: with another one, the store has been in use since.
    async fn last_node(&self) -> Result<i64>;

    /// Rows after `after`, a key of the table; fewer when they are long. None: that was the last page.
    async fn page(&self, of: TableColumns, after: Option<Vec<Cell>>, limit: usize) -> Result<Page>;

    /// How many rows `table` has of each number.
    async fn counts(&self, table: &'static str, by: CountBy) -> Result<BTreeMap<i64, i64>>;

    async fn balance(&self) -> Result<Balance>;

    /// The highest epoch of any shard.
    async fn last_epoch(&self) -> Result<i64>;

    /// Each id slot, and the time up to which its ids may have been used.
    async fn id_slots(&self) -> Result<Vec<(i64, i64)>>;

    /// The highest id that was ever given in each of the tables that number their rows.
    async fn last_ids(&self) -> Result<Vec<(String, i64)>>;

    /// From now on the store refuses to be served: its tasks live elsewhere.
    async fn mark_imported(&self, now: Timestamp) -> Result<()>;
}
