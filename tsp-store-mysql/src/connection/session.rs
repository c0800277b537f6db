//! A connection in use, and the one way that statements go.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySql, MySqlArguments, MySqlConnection};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Encode, Type};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, error::Elapsed, timeout};
use tsp_store::Footing;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::endpoint::Endpoint;
use crate::connection::fault::{Fault, fault, store_error};
use crate::connection::row::Row;
use crate::connection::statement_templates::StatementText;

/// How long a statement may take here: more than the server's own limit, so it ends only what the server
/// does not answer at all.
const PATIENCE: Duration = Duration::from_secs(12);

/// A statement that took longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// A connection from the pool. Dropped in the middle of a statement or a transaction, it is closed, so that
/// the server rolls back and nobody else waits for its answer.
#[derive(Debug)]
pub(crate) struct Session {
    conn: Option<PoolConnection<MySql>>,
    endpoint: Arc<Endpoint>,
    /// A statement was sent and not answered.
    waiting: bool,
    /// A transaction is open.
    open: bool,
    /// Its commit was sent.
    committing: bool,
    fault: Option<Fault>,
    footing: Option<Footing>,
    /// What it takes of its shard's share.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    pub(crate) fn new(
        conn: PoolConnection<MySql>,
        endpoint: Arc<Endpoint>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            conn: Some(conn),
            endpoint,
            waiting: false,
            open: false,
            committing: false,
            fault: None,
            footing: None,
            _permit: permit,
        }
    }

    /// What it is about to write was decided by this, which is kept until it has ended.
    pub(crate) fn stand_on(&mut self, footing: Footing) {
        self.footing = Some(footing);
    }

    /// The fault of the last failed statement.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// As [`crate::connection::statement_templates::StatementTemplates::sql`].
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.endpoint.templates.sql(template)
    }

    /// As [`crate::connection::statement_templates::StatementTemplates::sql_list`].
    pub(crate) fn sql_list(&self, template: &'static str, n: usize) -> StatementText {
        self.endpoint.templates.sql_list(template, n)
    }

    /// The driver's connection, for statements that are not [`query`]'s: they are neither measured nor
    /// repeated after a deadlock.
    pub(crate) fn raw(&mut self) -> Result<&mut MySqlConnection> {
        match &mut self.conn {
            Some(conn) => Ok(conn),
            None => Err(StoreError::Internal("a closed session is used".to_owned())),
        }
    }

    pub(crate) async fn begin(&mut self) -> Result<()> {
        if self.open || self.fault == Some(Fault::Broken) {
            // The server would commit what is open.
            return Err(Cause::Away.because(format!(
                "a transaction of `{}` is not over, its connection is thrown away",
                self.endpoint.name
            )));
        }
        self.open = true;
        self.raw_statement("-- begin\nBEGIN").await
    }

    /// # Errors
    /// [`StoreError::Unknown`] when the answer was lost: what was done may stand.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.committing = true;
        let done = self.raw_statement("-- commit\nCOMMIT").await;
        match done {
            Ok(()) => {
                self.open = false;
                Ok(())
            }
            // The server says itself that it rolled back.
            Err(error) if self.fault == Some(Fault::Again) => Err(error),
            Err(error) => Err(StoreError::Unknown(error.to_string())),
        }
    }

    /// The next transaction sees one moment, that of its first statement.
    pub(crate) async fn begin_snapshot(&mut self) -> Result<()> {
        self.raw_statement("-- snapshot\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        self.begin().await
    }

    /// # Errors
    /// [`StoreError::Unavailable`] when it is not known to be rolled back. The connection is of no use any more;
    /// dropped, it is closed, which rolls back as well.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        if self.fault == Some(Fault::Broken) {
            return Err(Cause::Away.because(format!("a connection to `{}` broke", self.endpoint.name)));
        }
        self.raw_statement("-- rollback\nROLLBACK").await?;
        self.open = false;
        Ok(())
    }

    /// Ends a transaction of which nothing is to be kept. Whoever calls this drops the session.
    pub(crate) async fn abandon(&mut self) {
        if let Err(error) = self.rollback().await {
            tracing::debug!(%error, "rolled back by closing the connection");
        }
    }

    async fn raw_statement(&mut self, text: &'static str) -> Result<()> {
        self.start();
        let done = timeout(PATIENCE, sqlx::raw_sql(text).execute(self.raw()?)).await;
        self.end(text, done).map(|_| ())
    }

    fn start(&mut self) {
        self.waiting = true;
        if self.fault != Some(Fault::Broken) {
            self.fault = None;
        }
    }

    fn end<T>(&mut self, name: &str, done: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T> {
        let Ok(answered) = done else {
            self.fault = Some(Fault::Broken);
            let why = format!("`{}` did not answer within {} s", self.endpoint.name, PATIENCE.as_secs());
            self.endpoint.breaker.unreachable(why.clone(), Instant::now());
            return Err(Cause::Away.because(format!("{why}: {name}")));
        };
        self.waiting = false;
        match answered {
            Ok(value) => {
                self.endpoint.breaker.answered();
                Ok(value)
            }
            Err(error) => {
                let fault = fault(&error);
                self.fault = Some(fault);
                match fault {
                    Fault::Broken => self.endpoint.breaker.found_broken(Instant::now()),
                    Fault::Moved => self.endpoint.breaker.found_moved(),
                    Fault::Again | Fault::Duplicate | Fault::Statement => {}
                }
                Err(match store_error(error) {
                    StoreError::Internal(why) => StoreError::Internal(format!("{name}: {why}")),
                    other => other.of(&self.endpoint.name),
                })
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without a commit the server takes a transaction back. But a commit that it was sent, or a statement
        // that is its own, it may still be doing.
        let unanswered = self.waiting || self.fault == Some(Fault::Broken);
        if unanswered
            && (self.committing || !self.open)
            && let Some(footing) = self.footing.take()
        {
            footing.linger(PATIENCE);
        }
        if let Some(conn) = self.conn.take()
            && (self.waiting || self.open || self.fault == Some(Fault::Broken))
        {
            drop(conn.detach());
        }
    }
}

/// A statement being put together: what [`sqlx::query()`] is, measured, and with errors of the store.
pub(crate) struct Statement {
    query: Query<'static, MySql, MySqlArguments>,
    sql: StatementText,
}

pub(crate) fn query(sql: &StatementText) -> Statement {
    Statement { query: sqlx::query(sql.clone()), sql: sql.clone() }
}

/// The same, with what is bound put together before.
pub(crate) fn query_with(sql: &StatementText, arguments: MySqlArguments) -> Statement {
    Statement { query: sqlx::query_with(sql.clone(), arguments), sql: sql.clone() }
}

impl Statement {
    pub(crate) fn bind<'t, T: Encode<'t, MySql> + Type<MySql>>(self, value: T) -> Self {
        Self { query: self.query.bind(value), ..self }
    }

    /// How many rows it matched.
    pub(crate) async fn execute(self, on: &mut Session) -> Result<u64> {
        Ok(self.run(on).await?.rows_affected())
    }

    /// The same; `None` when a row is there already under one of the unique keys. The statement is taken
    /// back then, and the transaction goes on.
    pub(crate) async fn execute_unless_duplicate(self, on: &mut Session) -> Result<Option<u64>> {
        match self.run(on).await {
            Ok(done) => Ok(Some(done.rows_affected())),
            Err(_) if on.fault == Some(Fault::Duplicate) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id that the table gave to the inserted row.
    pub(crate) async fn insert(self, on: &mut Session) -> Result<i64> {
        let name = self.sql.name();
        let done = self.run(on).await?;
        exactly_one(done.rows_affected(), name)?;
        i64::try_from(done.last_insert_id())
            .map_err(|_| StoreError::Internal(format!("`{name}` made an id that is too large")))
    }

    async fn run(self, on: &mut Session) -> Result<sqlx::mysql::MySqlQueryResult> {
        let started = Instant::now();
        on.start();
        let done = timeout(PATIENCE, self.query.execute(on.raw()?)).await;
        measure(&self.sql, on, started);
        on.end(self.sql.name(), done)
    }

    pub(crate) async fn fetch_all(self, on: &mut Session) -> Result<Vec<Row>> {
        let started = Instant::now();
        on.start();
        let done = timeout(PATIENCE, self.query.fetch_all(on.raw()?)).await;
        measure(&self.sql, on, started);
        on.end(self.sql.name(), done).map(|rows| rows.into_iter().map(Row).collect())
    }

    pub(crate) async fn fetch_optional(self, on: &mut Session) -> Result<Option<Row>> {
        let started = Instant::now();
        on.start();
        let done = timeout(PATIENCE, self.query.fetch_optional(on.raw()?)).await;
        measure(&self.sql, on, started);
        on.end(self.sql.name(), done).map(|row| row.map(Row))
    }

    pub(crate) async fn fetch_one(self, on: &mut Session) -> Result<Row> {
        let started = Instant::now();
        on.start();
        let done = timeout(PATIENCE, self.query.fetch_one(on.raw()?)).await;
        measure(&self.sql, on, started);
        on.end(self.sql.name(), done).map(Row)
    }
}

fn measure(sql: &StatementText, on: &Session, started: Instant) {
    let took = started.elapsed();
    sql.seconds().record(took);
    if took >= SLOW {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(statement = sql.name(), database = on.endpoint.name, ms, "a slow statement");
    }
}
