//! The store in memory, for tests and the simulation; and what every store means: the conformance suite.

pub mod conformance;
pub mod memory;
pub mod samples;
pub mod state_literals;

use tsp_core::Timestamp;
use tsp_store::error::Result;
use tsp_store::fetching::{FetcherStore, Fire, FireResult, Owner};

/// A step of one schedule alone.
///
/// # Errors
/// As the store answers.
///
/// # Panics
/// When it has another number of answers.
pub async fn fire_one(
    store: &(impl FetcherStore + ?Sized),
    owner: Owner,
    fire: Fire,
    now: Timestamp,
) -> Result<FireResult> {
    let mut answers = store.fire(owner, vec![fire], now).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

#[cfg(test)]
mod member_tests;
