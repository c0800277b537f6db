//! What can go wrong in a store, by what the caller should do about it.

use thiserror::Error;
use tsp_core::work::WorkError;

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

/// For a worker, which knows no store.
impl From<StoreError> for WorkError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { why, .. } => Self::Unavailable(why),
            StoreError::Unknown(why) => Self::Unknown(why),
            StoreError::Corrupt { table, column, id, why } => Self::Corrupt { table, column, id, why },
            error @ (StoreError::Unusable(_) | StoreError::Internal(_)) => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_the_kind_and_the_same_words() {
        let corrupt =
            StoreError::Corrupt { table: "task", column: "extra", id: 7, why: "no JSON".to_owned() };
        let told = |error: &StoreError| WorkError::from(error.clone());
        assert!(matches!(told(&corrupt), WorkError::Corrupt { table: "task", column: "extra", id: 7, .. }));
        for (error, transient) in [
            (Cause::Busy.because("no connection is free"), true),
            (StoreError::Unknown("gone".to_owned()), true),
            (corrupt, false),
            (StoreError::Unusable("another build's".to_owned()), false),
            (StoreError::Internal("one row expected".to_owned()), false),
        ] {
            assert_eq!(told(&error).is_transient(), transient, "{error}");
            assert_eq!(told(&error).to_string(), error.to_string());
        }
    }
}
