//! What can go wrong in a store, by what the caller should do about it.

use thiserror::Error;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failed call changed nothing, unless it is [`StoreError::Unknown`].
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Try again: it may be possible later.
    #[error("the store is unavailable: {why}")]
    Unavailable { cause: Cause, why: String },
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

/// Why a call is not possible now. Nobody branches on the text beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The database cannot be reached or used just now.
    Away,
    /// Others hold what is needed: connections, locks, memory.
    Busy,
    DiskFull,
    /// A table is not there: not made yet, or its shard was moved.
    NoTable,
    /// The lease that the call relies on may be another's by now.
    LeaseOver,
    /// Others changed what the call goes by, again and again.
    Changed,
    /// Whoever gave the order wanted it to stop.
    Interrupted,
    /// The store was closed.
    Closed,
}

impl Cause {
    /// The error of this cause, with its text.
    pub fn because(self, why: impl Into<String>) -> StoreError {
        StoreError::Unavailable { cause: self, why: why.into() }
    }
}

impl StoreError {
    /// Whether it is [`StoreError::Unavailable`] for this cause.
    pub fn is(&self, wanted: Cause) -> bool {
        matches!(self, Self::Unavailable { cause, .. } if *cause == wanted)
    }

    /// The same with the name of its database in front.
    #[must_use]
    pub fn of(self, database: &str) -> Self {
        match self {
            Self::Unavailable { cause, why } => cause.because(format!("`{database}`: {why}")),
            Self::Internal(why) => Self::Internal(format!("`{database}`: {why}")),
            other => other,
        }
    }
}
