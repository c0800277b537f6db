//! A connection in use, and the one way that statements go.

use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use metrics::Histogram;
use sqlx::mysql::{MySql, MySqlArguments, MySqlConnection, MySqlQueryResult, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::{Either, Execute, Executor as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, error::Elapsed, timeout};
use tsp_store::ConfigReadGuard;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::endpoint::Endpoint;
use crate::connection::fault::{Fault, fault, store_error};
use crate::connection::row::Row;
use crate::connection::statement_templates::{StatementText, made};
use crate::connection::value::Value;

/// How long a statement may take here: more than the server's own limit, so it ends only what the server
/// does not answer at all.
const PATIENCE: Duration = Duration::from_secs(12);

/// A statement that took longer is logged.
const SLOW: Duration = Duration::from_secs(1);

const BEGIN: &[&str] = &["-- begin\nBEGIN"];
const BEGIN_SNAPSHOT: &[&str] =
    &["-- snapshot\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "-- begin\nBEGIN"];
pub(super) const COMMIT: &str = "-- commit\nCOMMIT";

/// What goes with the begin of a transaction in one text: one round trip less is worth more than a prepared
/// statement of so many values and bytes.
const SHORT_VALUES: usize = 128;
const SHORT_BYTES: usize = 2_048;

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
    /// How it begins, as long as it has no statement: the first one takes it along.
    unsent: &'static [&'static str],
    /// Something of it was answered.
    answered: bool,
    /// Its commit was sent.
    pub(super) committing: bool,
    fault: Option<Fault>,
    read_guard: Option<ConfigReadGuard>,
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
            unsent: &[],
            answered: false,
            committing: false,
            fault: None,
            read_guard: None,
            _permit: permit,
        }
    }

    /// What it is about to write was decided by this, which is kept until it has ended.
    pub(crate) fn hold_read_guard(&mut self, read_guard: ConfigReadGuard) {
        self.read_guard = Some(read_guard);
    }

    /// The fault of the last failed statement.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// As [`crate::connection::statement_templates::StatementTemplates::sql`].
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.endpoint.templates.sql(template)
    }

    /// The driver's connection, for statements that are not [`query`]'s: they are neither measured nor
    /// repeated after a deadlock.
    pub(crate) fn raw(&mut self) -> Result<&mut MySqlConnection> {
        match &mut self.conn {
            Some(conn) => Ok(conn),
            None => Err(StoreError::Internal("a closed session is used".to_owned())),
        }
    }

    /// The server hears of it with the first statement.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.open_with(BEGIN)
    }

    /// The same for a transaction that sees one moment, that of its first statement.
    pub(crate) fn begin_snapshot(&mut self) -> Result<()> {
        self.open_with(BEGIN_SNAPSHOT)
    }

    fn open_with(&mut self, unsent: &'static [&'static str]) -> Result<()> {
        if self.open || self.fault == Some(Fault::Broken) {
            // The server would commit what is open.
            return Err(Cause::Away.because(format!(
                "a transaction of `{}` is not over, its connection is thrown away",
                self.endpoint.name
            )));
        }
        (self.open, self.unsent, self.answered) = (true, unsent, false);
        Ok(())
    }

    /// The connection was lost before the server answered anything of the transaction, of which nothing stands.
    pub(crate) fn was_lost_before(&self) -> bool {
        self.fault == Some(Fault::Broken) && !self.answered && !self.committing
    }

    /// # Errors
    /// [`StoreError::Unknown`] when the answer was lost: what was done may stand.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        if !take(&mut self.unsent).is_empty() {
            self.open = false;
            return Ok(());
        }
        self.commit_with("commit", &[]).await
    }

    /// What the answer of a commit means.
    pub(super) fn committed(&mut self, done: Result<()>) -> Result<()> {
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

    /// # Errors
    /// [`StoreError::Unavailable`] when it is not known to be rolled back. The connection is of no use any more;
    /// dropped, it is closed, which rolls back as well.
    pub(crate) async fn rollback(&mut self) -> Result<()> {
        if self.fault == Some(Fault::Broken) {
            return Err(Cause::Away.because(format!("a connection to `{}` broke", self.endpoint.name)));
        }
        if take(&mut self.unsent).is_empty() {
            self.ask("rollback", "-- rollback\nROLLBACK", &mut Vec::new()).await?;
        }
        self.open = false;
        Ok(())
    }

    /// Ends a transaction of which nothing is to be kept. Whoever calls this drops the session.
    pub(crate) async fn abandon(&mut self) {
        if let Err(error) = self.rollback().await {
            tracing::debug!(%error, "rolled back by closing the connection");
        }
    }

    /// Sends a text of one or more statements, after the begin that has not been sent, and adds their answers.
    pub(super) async fn ask_text(
        &mut self,
        name: &str,
        text: String,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let ahead = take(&mut self.unsent);
        if ahead.is_empty() {
            return self.ask(name, made(text), answers).await;
        }
        let text = ahead.iter().copied().chain([text.as_str()]).collect::<Vec<_>>().join(";\n");
        let done = self.ask(name, made(text), answers).await;
        answers.drain(..ahead.len().min(answers.len()));
        done
    }

    async fn ask<'q>(
        &mut self,
        name: &str,
        sent: impl Execute<'q, MySql> + 'q,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        self.start();
        let done = timeout(PATIENCE, receive(self.raw()?.fetch_many(sent), answers)).await;
        self.answered |= !answers.is_empty();
        self.end(name, done)
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
                    Fault::Again | Fault::Duplicate | Fault::Unprepared | Fault::Statement => {}
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
            && let Some(read_guard) = self.read_guard.take()
        {
            read_guard.linger(PATIENCE);
        }
        if let Some(conn) = self.conn.take()
            && (self.waiting || self.open || self.fault == Some(Fault::Broken))
        {
            drop(conn.detach());
        }
    }
}

/// What the server said to a statement.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// How many rows it matched.
    pub(crate) matched: u64,
    /// The id that the table gave to the inserted row.
    inserted: u64,
}

async fn receive(
    mut said: BoxStream<'_, Result<Either<MySqlQueryResult, MySqlRow>, sqlx::Error>>,
    answers: &mut Vec<Answer>,
) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    while let Some(step) = said.try_next().await? {
        match step {
            Either::Right(row) => rows.push(Row(row)),
            Either::Left(done) => answers.push(Answer {
                rows: take(&mut rows),
                matched: done.rows_affected(),
                inserted: done.last_insert_id(),
            }),
        }
    }
    Ok(())
}

/// A statement being put together: what [`sqlx::query()`] is, measured, and with errors of the store. It is sent
/// prepared where its server keeps it so, else as a text.
pub(crate) struct Statement<'v> {
    pub(super) sql: StatementText,
    pub(super) values: Vec<Value<'v>>,
}

pub(crate) fn query<'v>(sql: &StatementText) -> Statement<'v> {
    query_with(sql, Vec::new())
}

/// The same, with what is bound put together before.
pub(crate) fn query_with<'v>(sql: &StatementText, values: Vec<Value<'v>>) -> Statement<'v> {
    Statement { sql: sql.clone(), values }
}

impl<'v> Statement<'v> {
    pub(crate) fn bind(mut self, value: impl Into<Value<'v>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows it matched.
    pub(crate) async fn execute(self, on: &mut Session) -> Result<u64> {
        Ok(self.run(on).await?.matched)
    }

    /// The same; `None` when a row is there already under one of the unique keys. The statement is taken
    /// back then, and the transaction goes on.
    pub(crate) async fn execute_unless_duplicate(self, on: &mut Session) -> Result<Option<u64>> {
        match self.run(on).await {
            Ok(done) => Ok(Some(done.matched)),
            Err(_) if on.fault == Some(Fault::Duplicate) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id that the table gave to the inserted row.
    pub(crate) async fn insert(self, on: &mut Session) -> Result<i64> {
        let name = self.sql.name();
        let done = self.run(on).await?;
        exactly_one(done.matched, name)?;
        i64::try_from(done.inserted)
            .map_err(|_| StoreError::Internal(format!("`{name}` made an id that is too large")))
    }

    pub(crate) async fn fetch_all(self, on: &mut Session) -> Result<Vec<Row>> {
        Ok(self.run(on).await?.rows)
    }

    pub(crate) async fn fetch_optional(self, on: &mut Session) -> Result<Option<Row>> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    pub(crate) async fn fetch_one(self, on: &mut Session) -> Result<Row> {
        let name = self.sql.name();
        let row = self.fetch_optional(on).await?;
        row.ok_or_else(|| StoreError::Internal(format!("`{name}` gave no row")))
    }

    async fn run(self, on: &mut Session) -> Result<Answer> {
        let (started, name) = (Instant::now(), self.sql.name());
        let mut answers = Vec::with_capacity(1);
        let mut done = Ok(());
        let prepared = self.sql.is_prepared(on.endpoint.kept.load(Ordering::Relaxed))
            && (on.unsent.is_empty() || !self.is_short());
        if prepared {
            if !on.unsent.is_empty() {
                let begin = take(&mut on.unsent).join(";\n");
                on.ask("begin", made(begin), &mut Vec::new()).await?;
            }
            let sent = sqlx::query_with(self.sql.clone(), self.arguments()?);
            done = on.ask(name, sent, &mut answers).await;
        }
        if !prepared || on.fault == Some(Fault::Unprepared) {
            let mut text = String::new();
            self.sql.write(&self.values, &mut text)?;
            done = on.ask_text(name, text, &mut answers).await;
        }
        measure(name, self.sql.seconds(), on, started);
        done?;
        answers.pop().ok_or_else(|| StoreError::Internal(format!("`{name}` was not answered")))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.sql.name()
    }

    /// Whether it is worth more as a text that goes with others than prepared.
    pub(crate) fn is_short(&self) -> bool {
        self.values.len() <= SHORT_VALUES && self.values.iter().map(Value::size).sum::<usize>() <= SHORT_BYTES
    }

    fn arguments(&self) -> Result<MySqlArguments> {
        let mut arguments = MySqlArguments::default();
        for value in &self.values {
            let added = value.bind(&mut arguments);
            added.map_err(|error| StoreError::Internal(format!("a value cannot be sent: {error}")))?;
        }
        Ok(arguments)
    }
}

pub(super) fn measure(name: &'static str, seconds: &Histogram, on: &Session, started: Instant) {
    let took = started.elapsed();
    seconds.record(took);
    if took >= SLOW {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(statement = name, database = on.endpoint.name, ms, "a slow statement");
    }
}
