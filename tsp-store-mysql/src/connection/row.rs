//! Rows of this back end.

use sqlx::mysql::MySqlRow;
use sqlx::{Decode, MySql, Row as _, Type};
use tsp_store::backend::row::{ReadRow, good};
use tsp_store::error::Result;

use crate::connection::fault::store_error;

/// A row of the driver.
pub(crate) struct Row(pub(crate) MySqlRow);

impl Row {
    pub(crate) fn get<'r, T: Decode<'r, MySql> + Type<MySql>>(&'r self, at: usize) -> Result<T> {
        self.0.try_get(at).map_err(store_error)
    }

    fn value<'r, T: Decode<'r, MySql> + Type<MySql>>(&'r self, at: usize) -> Result<Option<T>, String> {
        self.0.try_get(at).map_err(|error| error.to_string())
    }
}

impl ReadRow for Row {
    const KEY: &'static str = "task_key";

    fn int(&self, at: usize) -> Result<Option<i64>, String> {
        self.value(at)
    }

    fn text(&self, at: usize) -> Result<Option<&str>, String> {
        self.value(at)
    }

    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, String> {
        self.value(at)
    }
}

/// Every row that can be read; a bad one is reported and does not stop its neighbours.
pub(crate) fn all_good<T>(rows: &[Row], mut read: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    let mut read_rows = Vec::with_capacity(rows.len());
    for row in rows {
        read_rows.extend(good(read(row))?);
    }
    Ok(read_rows)
}
