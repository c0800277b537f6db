//! Rows of this back end.

use rusqlite::types::{FromSql, ValueRef};
use tsp_store::backend::row::ReadRow;
use tsp_store::error::Result;

use crate::connection::fault::store_error;

/// A row of the driver.
pub(crate) struct Row<'r>(pub(crate) &'r rusqlite::Row<'r>);

impl Row<'_> {
    pub(crate) fn get<T: FromSql>(&self, at: usize) -> Result<T> {
        self.0.get(at).map_err(store_error)
    }

    pub(crate) fn value(&self, at: usize) -> Result<ValueRef<'_>, String> {
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
