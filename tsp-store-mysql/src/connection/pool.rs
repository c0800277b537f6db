//! Connections to one database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::Instant;
use tsp_store::error::{Result, StoreError};

use crate::connection::endpoint::Endpoint;

/// Below the end of idle sessions on MySQL, which is how it lacks an end of idle transactions.
const MYSQL_IDLE_MAX: Duration = Duration::from_secs(5);

/// How a database is connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSettings {
    pub(crate) connections: u32,
    pub(crate) acquire_timeout: Duration,
    /// More than a connection ever prepares: above it each new one costs 40 ms (sql.md section 2).
    pub(crate) statements: usize,
}

/// MariaDB and MySQL differ in few settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    MariaDb,
    MySql,
}

/// What the server of a pool was at the last connect.
#[derive(Debug, Default)]
pub(crate) struct ServerSeen(AtomicU8);

impl ServerSeen {
    fn note(&self, server: Server) {
        let code = match server {
            Server::MariaDb => 1,
            Server::MySql => 2,
        };
        self.0.store(code, Ordering::Relaxed);
    }

    fn is_mysql(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 2
    }
}

/// # Errors
/// [`StoreError::Unusable`] for an address that is none.
pub(crate) fn address(url: &str, name: &str) -> Result<MySqlConnectOptions> {
    let parsed = url.parse::<MySqlConnectOptions>();
    // The error could quote the address, and with it the password.
    parsed.map_err(|_| {
        StoreError::Unusable(format!(
            "the address of database `{name}` is none: write `mysql://user:password@host:port/database`"
        ))
    })
}

/// A pool that connects when it is first asked, so that an unavailable database does not hold up a start.
pub(crate) fn lazy(
    address: MySqlConnectOptions,
    settings: PoolSettings,
    endpoint: &Arc<Endpoint>,
) -> MySqlPool {
    let address = address.statement_cache_capacity(settings.statements).disable_statement_logging();
    let seen = Arc::new(ServerSeen::default());
    let noted = seen.clone();
    let endpoint = endpoint.clone();
    MySqlPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(settings.acquire_timeout)
        .max_lifetime(Duration::from_mins(30))
        .idle_timeout(Duration::from_mins(10))
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let noted = noted.clone();
            Box::pin(async move {
                noted.note(initialise(conn).await?);
                Ok(())
            })
        })
        .before_acquire(move |conn, meta| {
            let stale = seen.is_mysql() && meta.idle_for > MYSQL_IDLE_MAX;
            let suspect = endpoint.breaker.suspect(meta.idle_for, Instant::now());
            Box::pin(async move { Ok(!stale && (!suspect || conn.ping().await.is_ok())) })
        })
        .connect_lazy_with(address)
}

/// The settings of every session (sql.md section 5).
pub(crate) async fn initialise(conn: &mut MySqlConnection) -> Result<Server, sqlx::Error> {
    let version: String = sqlx::raw_sql("-- version\nSELECT VERSION()").fetch_one(&mut *conn).await?.get(0);
    let server = if version.contains("MariaDB") { Server::MariaDb } else { Server::MySql };
    let own = match server {
        // A long list stays a list: it would be made a subquery, which reads the whole table.
        Server::MariaDb => {
            "-- session\nSET max_statement_time = 10, idle_transaction_timeout = 2, \
             in_predicate_conversion_threshold = 0"
        }
        Server::MySql => "-- session\nSET max_execution_time = 10000, wait_timeout = 10",
    };
    sqlx::raw_sql("-- isolation\nSET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql("-- lock_wait\nSET innodb_lock_wait_timeout = 5").execute(&mut *conn).await?;
    sqlx::raw_sql(own).execute(&mut *conn).await?;
    Ok(server)
}
