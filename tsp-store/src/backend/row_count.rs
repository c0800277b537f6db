//! How many rows: what a statement may touch at most, and whether it touched as many as it must.

use crate::error::{Result, StoreError};

/// A compare-and-set touches one row, or none because somebody else was first.
pub fn one_or_none(changed: impl TryInto<usize>, statement: &str) -> Result<bool> {
    match changed.try_into() {
        Ok(0) => Ok(false),
        changed => exactly_one(changed.unwrap_or(usize::MAX), statement).map(|()| true),
    }
}

/// A write that must touch exactly one row.
pub fn exactly_one(changed: impl TryInto<usize>, statement: &str) -> Result<()> {
    exactly(1, changed, statement)
}

/// A write that must touch exactly `wanted` rows.
pub fn exactly(wanted: usize, changed: impl TryInto<usize>, statement: &str) -> Result<()> {
    let changed = changed.try_into().unwrap_or(usize::MAX);
    if changed == wanted {
        return Ok(());
    }
    Err(StoreError::Internal(format!("`{statement}` touched {changed} rows, not {wanted}")))
}

/// For `LIMIT ?`.
pub fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
