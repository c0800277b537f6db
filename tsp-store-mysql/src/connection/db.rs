//! A database, and a shard on one: texts, reads, transactions.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::RwLock;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tsp_core::task::EndResult;
use tsp_core::{Entropy, ShardId};
use tsp_store::backend::sums::Sums;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::circuit_breaker::{CircuitBreaker, Entry};
use crate::connection::endpoint::Endpoint;
use crate::connection::fault::Fault;
use crate::connection::own::OwnNode;
use crate::connection::pool::{self, PoolSettings};
use crate::connection::session::{Session, Statement, query};
use crate::connection::statement_templates::{StatementTemplates, StatementText};
use crate::connection::tx::Tx;

/// A transaction that met a deadlock or a lock is retried so many times.
const AGAIN_MAX: u32 = 3;

/// How long it waits before the first retry, and how much longer at most.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_JITTER: Duration = Duration::from_millis(20);

/// How long the probe waits for a database.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// How long a close waits for connections that are in use.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

const BALANCE_ADD: &str = "-- balance_add
INSERT INTO balance_{shard} (node, accepted, ended, dropped) VALUES (?, ?, ?, ?)
ON DUPLICATE KEY UPDATE accepted = accepted + ?, ended = ended + ?, dropped = dropped + ?";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Arc<Endpoint>,
    pool: MySqlPool,
    /// How long the calls took, by name.
    calls: RwLock<HashMap<&'static str, Histogram>>,
    transactions: Counter,
    failed: Counter,
    again: Counter,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.name())
    }
}

impl Db {
    /// Connects when it is first asked.
    pub(crate) fn lazy(
        name: &str,
        address: MySqlConnectOptions,
        settings: PoolSettings,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let endpoint = Arc::new(Endpoint::new(name));
        let inner = Inner {
            pool: pool::lazy(address, settings, &endpoint),
            endpoint,
            calls: RwLock::default(),
            transactions: counter!("tsp_store_transactions_total"),
            failed: counter!("tsp_store_transactions_failed_total"),
            again: counter!("tsp_store_transactions_again_total"),
            entropy,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The data source's name, or `meta`.
    pub(crate) fn name(&self) -> &str {
        &self.inner.endpoint.name
    }

    pub(crate) fn breaker(&self) -> &CircuitBreaker {
        &self.inner.endpoint.breaker
    }

    /// Whether both are the same pool.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// So many of [`crate::connection::prepared::HOT`] are prepared for each shard; none before this is said.
    pub(crate) fn prepare(&self, kept: usize) {
        self.inner.endpoint.kept.store(kept, Ordering::Relaxed);
    }

    /// As [`StatementTemplates::sql`].
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.inner.endpoint.templates.sql(template)
    }

    /// As [`StatementTemplates::sql_rows`].
    pub(crate) fn sql_rows(&self, template: &'static str, width: usize, rows: usize) -> StatementText {
        self.inner.endpoint.templates.sql_rows(template, width, rows)
    }

    /// A connection for single statements. Prefer [`Db::read`], which tries another one when it is broken.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database is unavailable (then at once, if that is known) or all
    /// connections stay busy.
    pub(crate) async fn conn(&self) -> Result<Session> {
        self.conn_of(None).await
    }

    /// The same within what one shard may take.
    async fn conn_of(&self, share: Option<&ShardDb>) -> Result<Session> {
        let permit = match share {
            Some(shard) => Some(shard.permit().await?),
            None => None,
        };
        let pool = &self.inner.pool;
        let acquired = match self.breaker().enter(Instant::now())? {
            Entry::Open => pool.acquire().await,
            Entry::Probe => {
                timeout(PROBE_PATIENCE, pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        };
        match acquired {
            Ok(conn) => Ok(Session::new(conn, self.inner.endpoint.clone(), permit)),
            Err(sqlx::Error::PoolTimedOut) if self.is_full() => {
                Err(Cause::Busy.because(format!("all connections to `{}` are busy", self.name())))
            }
            Err(error) => {
                let why = format!("`{}` cannot be reached: {error}", self.name());
                self.breaker().unreachable(why.clone(), Instant::now());
                Err(Cause::Away.because(why))
            }
        }
    }

    /// How many connections one shard may have.
    fn share(&self) -> usize {
        let connections =
            usize::try_from(self.inner.pool.options().get_max_connections()).unwrap_or(usize::MAX);
        (connections / 2).max(2)
    }

    fn is_full(&self) -> bool {
        let pool = &self.inner.pool;
        pool.size() >= pool.options().get_max_connections() && !pool.is_closed()
    }

    /// Reads, or writes with one statement that may be repeated. Once more on another connection if the
    /// first was broken.
    pub(crate) async fn read<'e, T: Send>(
        &self,
        name: &'static str,
        work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        self.read_of(None, name, work).await
    }

    async fn read_of<'e, T: Send>(
        &self,
        share: Option<&ShardDb>,
        name: &'static str,
        mut work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        let started = Instant::now();
        let mut tx = Tx::new(self.conn_of(share).await?);
        let mut done = work(&mut tx).await;
        if done.is_err() && tx.conn().fault() == Some(Fault::Broken) {
            drop(tx);
            tx = Tx::new(self.conn_of(share).await?);
            done = work(&mut tx).await;
        }
        self.called(name, started);
        done
    }

    /// Runs `work` in a transaction, at READ COMMITTED. After a deadlock or a lock wait all of it comes
    /// again; a connection that is found broken by its first statement is replaced once.
    ///
    /// # Errors
    /// Those of `work`; [`StoreError::Unknown`] when the answer of the commit was lost.
    pub(crate) async fn transact<'e, T: Send>(
        &self,
        name: &'static str,
        work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        self.transaction(name, Around::default(), work).await
    }

    /// As [`Db::transact`], after a statement that locks a row for the length of the transaction.
    pub(crate) async fn transact_locked<'e, T: Send>(
        &self,
        name: &'static str,
        lock: &StatementText,
        work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        self.transaction(name, Around { lock: Some(lock), shard: None }, work).await
    }

    /// Reads several statements as of one moment. Once more on another connection if the first was broken.
    pub(crate) async fn snapshot<'e, T: Send>(
        &self,
        name: &'static str,
        mut work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        let started = Instant::now();
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let mut tx = Tx::new(self.conn().await?);
            tx.conn().begin_snapshot()?;
            let done = work(&mut tx).await;
            let broken = done.is_err() && tx.conn().fault() == Some(Fault::Broken);
            tx.conn().abandon().await;
            if !broken || tries == 2 {
                break done;
            }
        };
        self.called(name, started);
        done
    }

    async fn transaction<'e, T: Send>(
        &self,
        name: &'static str,
        around: Around<'_>,
        mut work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        let started = Instant::now();
        let (mut round, mut replaced) = (0, false);
        let done = loop {
            let mut tx = Tx::new(self.conn_of(around.shard).await?);
            tx.conn().begin()?;
            let mut outdated = false;
            let done = match around.begun(&mut tx).await {
                Ok(()) => work(&mut tx).await,
                Err(error) => Err(error),
            };
            let done = match done {
                Ok(value) if tx.is_undone() => {
                    tx.conn().abandon().await;
                    break Ok(value);
                }
                Ok(value) => around.finish(&mut tx, &mut outdated).await.map(|()| value),
                Err(error) => Err(error),
            };
            if done.is_ok() {
                self.inner.transactions.increment(1);
                if let Some(shard) = around.shard {
                    shard.count_ended(&tx.sums.ended_by_result);
                }
                break done;
            }
            let known = !matches!(done, Err(StoreError::Unknown(_)));
            let passing = outdated || tx.conn().fault() == Some(Fault::Again);
            let again = known && passing && round < AGAIN_MAX;
            let lost = tx.conn().was_lost_before();
            tx.conn().abandon().await;
            drop(tx);
            if lost && !std::mem::replace(&mut replaced, true) {
                continue;
            }
            self.inner.failed.increment(1);
            if !again {
                break done;
            }
            round += 1;
            self.inner.again.increment(1);
            tokio::time::sleep(pause(round, &*self.inner.entropy)).await;
        };
        self.called(name, started);
        done
    }

    fn called(&self, name: &'static str, started: Instant) {
        let took = started.elapsed();
        if let Some(histogram) = self.inner.calls.read().get(name) {
            histogram.record(took);
            return;
        }
        let histogram = histogram!("tsp_store_seconds", "statement" => name);
        histogram.record(took);
        self.inner.calls.write().insert(name, histogram);
    }

    /// Waits for connections that are in use, but not long: of a server that is unavailable none comes back.
    pub(crate) async fn close(&self) {
        if timeout(CLOSE_PATIENCE, self.inner.pool.close()).await.is_err() {
            tracing::warn!(database = self.name(), "closed with connections in use");
        }
    }
}

/// Longer with each round, and hardly ever the same for two that met.
fn pause(round: u32, entropy: &dyn Entropy) -> Duration {
    (PAUSE + PAUSE_JITTER.mul_f64(entropy.jitter_fraction())) * round
}

/// What comes before and after the work of a transaction.
#[derive(Debug, Clone, Copy, Default)]
struct Around<'a> {
    lock: Option<&'a StatementText>,
    shard: Option<&'a ShardDb>,
}

impl Around<'_> {
    async fn begun(self, tx: &mut Tx<'_>) -> Result<()> {
        if let Some(shard) = self.shard {
            tx.conn().hold_read_guard(shard.own.config_cache.read_guard());
        }
        if let Some(lock) = self.lock {
            query(lock).fetch_one(tx.conn()).await?;
        }
        Ok(())
    }

    /// The sums, a last check of what the work went by, and the commit. `outdated`: that is not so any more.
    async fn finish(self, tx: &mut Tx<'_>, outdated: &mut bool) -> Result<()> {
        let Some(shard) = self.shard else { return tx.conn().commit().await };
        let sums = (!tx.sums.is_empty()).then(|| add_sums(&tx.sums, shard));
        if tx.by.is_empty() {
            return tx.conn().commit_with("commit", sums.as_slice()).await;
        }
        // After the check nothing may wait.
        if let Some(sums) = sums {
            sums.execute(tx.conn()).await?;
        }
        shard.own.may_commit()?;
        if !tx.by.iter().all(|seen| shard.own.still(*seen)) {
            *outdated = true;
            return Err(Cause::Changed.because("the config is changed again and again"));
        }
        tx.conn().commit().await
    }
}

/// The sums change with the rows they count. Processes have rows of their own, but one for all their transactions:
/// whatever else may wait comes before this.
pub(crate) fn add_sums<'v>(sums: &Sums, shard: &ShardDb) -> Statement<'v> {
    let (accepted, ended, dropped) = (sums.accepted, sums.ended(), sums.dropped);
    query(&shard.sql(BALANCE_ADD))
        .bind(shard.own.node.load(Ordering::Relaxed))
        .bind(accepted)
        .bind(ended)
        .bind(dropped)
        .bind(accepted)
        .bind(ended)
        .bind(dropped)
}

/// A shard's tables where they are now. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardDb {
    pub(crate) shard: ShardId,
    pub(crate) db: Db,
    templates: Arc<StatementTemplates>,
    own: Arc<OwnNode>,
    ended: Arc<[Counter; EndResult::ALL.len()]>,
    /// So many connections this shard may have at once: rows that are locked, or a table, would in the end hold all
    /// of them, and with them every other shard of the data source.
    share: Arc<Semaphore>,
}

impl fmt::Debug for ShardDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardDb({:03} on {})", self.shard.get(), self.db.name())
    }
}

impl ShardDb {
    pub(crate) fn new(shard: ShardId, db: Db, own: Arc<OwnNode>) -> Self {
        let ended = EndResult::ALL.map(|end| counter!("tsp_tasks_ended_total", "result" => end.as_str()));
        let share = Arc::new(Semaphore::new(db.share()));
        Self {
            shard,
            db,
            templates: Arc::new(StatementTemplates::new(Some(shard))),
            own,
            ended: Arc::new(ended),
            share,
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let patience = self.db.inner.pool.options().get_acquire_timeout();
        match timeout(patience, self.share.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Cause::Busy.because(format!(
                "all connections that shard {} of `{}` may have are busy",
                self.shard.get(),
                self.db.name()
            ))),
        }
    }

    /// As [`StatementTemplates::sql`].
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.templates.sql(template)
    }

    /// As [`StatementTemplates::sql_rows`].
    pub(crate) fn sql_rows(&self, template: &'static str, width: usize, rows: usize) -> StatementText {
        self.templates.sql_rows(template, width, rows)
    }

    /// As [`Db::conn`].
    pub(crate) async fn conn(&self) -> Result<Session> {
        self.db.conn_of(Some(self)).await
    }

    /// As [`Db::read`].
    pub(crate) async fn read<'e, T: Send>(
        &self,
        name: &'static str,
        work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        self.db.read_of(Some(self), name, work).await
    }

    /// As [`Db::transact`]. The transaction stands on the config cache as it is when it begins, its last statement
    /// adds its sums to the shard's, and it is committed only if the configs that it went by still stand.
    pub(crate) async fn transact<'e, T: Send>(
        &self,
        name: &'static str,
        work: impl for<'t> FnMut(&'t mut Tx<'e>) -> BoxFuture<'t, Result<T>> + Send,
    ) -> Result<T> {
        self.db.transaction(name, Around { lock: None, shard: Some(self) }, work).await
    }

    /// Here and not at the worker, because a task also ends by a cancel, a completion or its expiry.
    fn count_ended(&self, by_result: &[i64; EndResult::ALL.len()]) {
        for (counter, count) in self.ended.iter().zip(by_result) {
            counter.increment(u64::try_from(*count).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::site::Seeded;

    #[test]
    fn pauses_grow_and_are_the_same_for_the_same_seed() {
        let pauses = |seed| {
            let entropy = Seeded::new(seed);
            (1..=AGAIN_MAX).map(|round| pause(round, &entropy)).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
        for (round, pause) in (1..).zip(pauses(1)) {
            assert!(pause >= PAUSE * round && pause < (PAUSE + PAUSE_JITTER) * round, "{pause:?}");
        }
    }
}
