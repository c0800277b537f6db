//! Where a row that breaks the format stands.

use crate::error::{Result, StoreError};

/// Where a row stands, for the report of a bad one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowLocation {
    pub(crate) table: &'static str,
    pub(crate) id: i64,
}

impl RowLocation {
    pub(crate) fn corrupt(self, column: &'static str, why: impl Into<String>) -> StoreError {
        StoreError::Corrupt { table: self.table, column, id: self.id, why: why.into() }
    }

    pub(crate) fn known<T>(self, column: &'static str, code: i64, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.corrupt(column, format!("{code} is not known")))
    }

    pub(crate) fn number<T: TryFrom<i64>>(self, column: &'static str, value: i64) -> Result<T> {
        T::try_from(value).map_err(|_| self.corrupt(column, format!("{value} is out of range")))
    }
}
