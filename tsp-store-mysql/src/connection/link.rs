//! A connection for long work on one database: beside the pools, without their time-outs.

use std::time::Duration;

use futures::TryStreamExt as _;
use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::fault::{Fault, fault, store_error};
use crate::connection::pool;
use crate::connection::row::Row;
use crate::connection::statement_templates::made;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Each statement sees what others have committed, and a change of a table waits shortly for those who use it.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
const WAIT_SHORTLY: &str = "SET SESSION lock_wait_timeout = 3, innodb_lock_wait_timeout = 5";

/// A connection, and the name of its database in messages.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    conn: MySqlConnection,
}

impl Link {
    pub(crate) async fn connect(name: &str, url: &str) -> Result<Self> {
        let address = pool::address(url, name)?.disable_statement_logging();
        let connected = timeout(CONNECT_WITHIN, address.connect()).await;
        let away = |why: String| Cause::Away.because(format!("`{name}` cannot be reached: {why}"));
        let conn = match connected {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(away(error.to_string())),
            Err(_) => return Err(away(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
        };
        let mut link = Self { name: name.to_owned(), conn };
        link.run(ISOLATION.to_owned()).await?;
        link.run(WAIT_SHORTLY.to_owned()).await?;
        Ok(link)
    }

    pub(crate) fn raw(&mut self) -> &mut MySqlConnection {
        &mut self.conn
    }

    /// A text made of constants and literals that this crate has put together.
    pub(crate) async fn run(&mut self, text: String) -> Result<u64> {
        let done = sqlx::raw_sql(made(text)).execute(&mut self.conn).await;
        done.map(|done| done.rows_affected()).map_err(|error| store_error(error).of(&self.name))
    }

    pub(crate) async fn rows(&mut self, text: String) -> Result<Vec<Row>> {
        let rows = sqlx::raw_sql(made(text)).fetch_all(&mut self.conn).await;
        let rows = rows.map_err(|error| store_error(error).of(&self.name))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// Whether a table is there; it waits for a change of it.
    pub(crate) async fn has(&mut self, table: &str) -> Result<bool> {
        let text = made(format!("-- has\nSELECT 1 FROM {table} LIMIT 0"));
        match sqlx::raw_sql(text).execute(&mut self.conn).await {
            Ok(_) => Ok(true),
            Err(error) if fault(&error) == Fault::Moved => Ok(false),
            Err(error) => Err(store_error(error).of(&self.name)),
        }
    }

    /// The first column of all rows, as text.
    pub(crate) async fn texts(&mut self, text: String) -> Result<Vec<String>> {
        self.rows(text).await?.iter().map(|row| row.get(0)).collect()
    }

    /// The first column of the only row, a number.
    pub(crate) async fn number(&mut self, text: String) -> Result<i64> {
        let rows = self.rows(text).await?;
        let row = rows.first().ok_or_else(|| StoreError::Internal("a count gave no row".to_owned()))?;
        row.get(0)
    }

    /// Gives the first column of each row to `each`, as the rows come.
    pub(crate) async fn each(
        &mut self,
        text: String,
        mut each: impl AsyncFnMut(String) -> Result<()>,
    ) -> Result<()> {
        let name = self.name.clone();
        let mut rows = sqlx::raw_sql(made(text)).fetch(&mut self.conn);
        while let Some(row) = rows.try_next().await.map_err(|error| store_error(error).of(&name))? {
            each(Row(row).get(0)?).await?;
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        let _ = self.conn.close().await;
    }
}
