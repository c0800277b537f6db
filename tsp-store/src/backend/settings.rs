//! What is fixed when a store is made.

use tsp_core::ids::SHARDS_MAX;

use crate::error::{Result, StoreError};

pub fn check_shard_count(wanted: u16) -> Result<()> {
    if (1..=SHARDS_MAX).contains(&wanted) {
        return Ok(());
    }
    Err(StoreError::Unusable(format!("`store.shards` is {wanted}, it must be 1 to {SHARDS_MAX}")))
}

/// The number of logical shards never changes: ids and key homes depend on it.
pub fn check_shards(stored: &str, wanted: u16) -> Result<()> {
    if stored == wanted.to_string() {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "the store was made with {stored} shards and is opened with {wanted}: the number is fixed, set \
         `store.shards = {stored}`"
    )))
}
