//! Rows of this back end.

use std::ops::Deref;

use rusqlite::Rows;
use rusqlite::types::ValueRef;

use crate::backend::row::{ReadRow, good};
use crate::error::Result;

/// A row of the driver.
pub(super) struct Row<'r>(pub(super) &'r rusqlite::Row<'r>);

impl<'r> Deref for Row<'r> {
    type Target = rusqlite::Row<'r>;

    fn deref(&self) -> &rusqlite::Row<'r> {
        self.0
    }
}

impl Row<'_> {
    fn value(&self, at: usize) -> Result<ValueRef<'_>, String> {
        self.0.get_ref(at).map_err(|error| error.to_string())
    }
}

impl ReadRow for Row<'_> {
    const KEY: &'static str = "key";

    fn int(&self, at: usize) -> Result<Option<i64>, String> {
        match self.value(at)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(value) => Ok(Some(value)),
            other => Err(is_of_type(other)),
        }
    }

    fn text(&self, at: usize) -> Result<Option<&str>, String> {
        match self.value(at)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(text) => str::from_utf8(text).map(Some).map_err(|error| error.to_string()),
            other => Err(is_of_type(other)),
        }
    }

    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, String> {
        match self.value(at)? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(bytes) => Ok(Some(bytes)),
            other => Err(is_of_type(other)),
        }
    }
}

fn is_of_type(value: ValueRef<'_>) -> String {
    format!("is of type {}", value.data_type())
}

/// The first row of a query, if there is one.
pub(super) fn first<T>(mut rows: Rows<'_>, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<Option<T>> {
    rows.next()?.map(|row| read(&Row(row))).transpose()
}

/// Every row of a query; whoever calls this has put a limit into it.
pub(super) fn all<T>(mut rows: Rows<'_>, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut read_rows = Vec::new();
    while let Some(row) = rows.next()? {
        read_rows.push(read(&Row(row))?);
    }
    Ok(read_rows)
}

/// Every row that can be read; a bad one is reported and does not stop its neighbours.
pub(super) fn all_good<T>(mut rows: Rows<'_>, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut read_rows = Vec::new();
    while let Some(row) = rows.next()? {
        read_rows.extend(good(read(&Row(row)))?);
    }
    Ok(read_rows)
}
