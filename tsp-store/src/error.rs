//! What can go wrong in a store, by what the caller should do about it.

use thiserror::Error;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failed call changed nothing, unless it is [`StoreError::Unknown`].
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Try again: the database is away, busy, or its disk is full.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The answer of a commit was lost: it may or may not have happened.
    #[error("the outcome of a commit is not known: {0}")]
    Unknown(String),
    /// A row that breaks the format. It is reported and does not stop its neighbours.
    #[error("corrupt row: {table}.{column} of id {id}: {why}")]
    Corrupt { table: &'static str, column: &'static str, id: i64, why: String },
    /// The file or server cannot be used by this binary.
    #[error("{0}")]
    Unusable(String),
    /// A bug.
    #[error("internal store error: {0}")]
    Internal(String),
}
