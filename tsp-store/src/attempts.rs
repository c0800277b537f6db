//! What workers do: begin, finish, release. Their trait is `tsp-core`'s, so that a worker needs no store to name it.

use tsp_core::work;
pub use tsp_core::work::{AttemptStore, BeginRequest, BeginResult, Finish, FinishResult, WorkError};

use crate::error::{Result, StoreError};

/// As [`work::Each`], with this crate's errors.
pub type Each<T> = work::Each<T, StoreError>;

/// All of them.
///
/// # Errors
/// The first one's.
pub fn all<T, E>(each: work::Each<T, E>) -> Result<Vec<T>, E> {
    each.into_iter().collect()
}

/// For a call that answers for all `count` elements at once.
pub fn alike<T>(answers: Result<Vec<T>>, count: usize) -> Each<T> {
    match answers {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

/// The answers as a worker knows them.
pub fn for_worker<T>(answers: Each<T>) -> work::Each<T> {
    answers.into_iter().map(|answer| answer.map_err(WorkError::from)).collect()
}
