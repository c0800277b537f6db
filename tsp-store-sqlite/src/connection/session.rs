//! A connection in use, and the one way that statements go.

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{CachedStatement, Connection, Params};
use tsp_store::backend::row::good;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::row::Row;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Session<'c>(&'c Connection);

impl<'c> Session<'c> {
    pub(crate) fn new(conn: &'c Connection) -> Self {
        Self(conn)
    }

    /// The driver's connection, for what is no statement.
    pub(crate) fn raw(self) -> &'c Connection {
        self.0
    }

    /// Each text is prepared once, and kept by the connection.
    pub(crate) fn prepare(self, sql: &'c str) -> Result<Statement<'c>> {
        self.0.prepare_cached(sql).map(|prepared| Statement { prepared, sql }).map_err(store_error)
    }

    /// Any number of statements, without values.
    pub(crate) fn execute_batch(self, sql: &str) -> Result<()> {
        self.0.execute_batch(sql).map_err(store_error)
    }

    /// Inserts one row; the id that the table gave to it.
    pub(crate) fn insert(self, sql: &'c str, values: impl Params) -> Result<i64> {
        self.prepare(sql)?.execute_one(values)?;
        Ok(self.0.last_insert_rowid())
    }
}

pub(crate) struct Statement<'c> {
    prepared: CachedStatement<'c>,
    sql: &'c str,
}

impl Statement<'_> {
    /// How many rows it touched.
    pub(crate) fn execute(&mut self, values: impl Params) -> Result<usize> {
        self.prepared.execute(values).map_err(store_error)
    }

    /// A write that must touch exactly one row.
    pub(crate) fn execute_one(&mut self, values: impl Params) -> Result<()> {
        match self.execute(values)? {
            1 => Ok(()),
            touched => exactly_one(touched, self.name()),
        }
    }

    /// A compare-and-set: whether it touched its row.
    pub(crate) fn execute_one_or_none(&mut self, values: impl Params) -> Result<bool> {
        match self.execute(values)? {
            0 => Ok(false),
            1 => Ok(true),
            touched => exactly_one(touched, self.name()).map(|()| true),
        }
    }

    pub(crate) fn exists(&mut self, values: impl Params) -> Result<bool> {
        self.prepared.exists(values).map_err(store_error)
    }

    pub(crate) fn rows(&mut self, values: impl Params) -> Result<Rows<'_>> {
        self.prepared.query(values).map(Rows).map_err(store_error)
    }

    pub(crate) fn first<T>(
        &mut self,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.rows(values)?.next()?.map(|row| read(&row)).transpose()
    }

    /// Of a query that always has a row.
    pub(crate) fn one<T>(
        &mut self,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let found = self.first(values, read)?;
        found.ok_or_else(|| StoreError::Internal(format!("`{}` found no row", self.name())))
    }

    /// Every row; whoever calls this has put a limit into it.
    pub(crate) fn all<T>(
        &mut self,
        values: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut rows, mut read_rows) = (self.rows(values)?, Vec::new());
        while let Some(row) = rows.next()? {
            read_rows.push(read(&row)?);
        }
        Ok(read_rows)
    }

    /// Every row that can be read; a bad one is reported and does not stop its neighbours.
    pub(crate) fn all_good<T>(
        &mut self,
        values: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (mut rows, mut read_rows) = (self.rows(values)?, Vec::new());
        while let Some(row) = rows.next()? {
            read_rows.extend(good(read(&row))?);
        }
        Ok(read_rows)
    }

    pub(crate) fn column_count(&self) -> usize {
        self.prepared.column_count()
    }

    /// For errors.
    fn name(&self) -> &str {
        self.sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or("unnamed").trim()
    }
}

/// The rows of a query that runs.
pub(crate) struct Rows<'s>(rusqlite::Rows<'s>);

impl Rows<'_> {
    /// The row that [`Rows::next`] gave last.
    pub(crate) fn current(&self) -> Option<Row<'_>> {
        self.0.get().map(Row)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        self.0.next().map(|row| row.map(Row)).map_err(store_error)
    }
}
