//! Opening: connections, what must be right before the first call, and the config cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tsp_core::{ShardId, Timestamp};
use tsp_store::backend::settings::check_shards;
use tsp_store::documents::Sealer;
use tsp_store::error::{Cause, Result, StoreError};

use crate::catalog::follow;
use crate::connection::db::{Db, ShardDb};
use crate::connection::own::OwnNode;
use crate::connection::pool::{self, PoolSettings};
use crate::connection::prepared::{self, ALLOWED_BY_DEFAULT, HOT};
use crate::connection::session::query;
use crate::context::{Source, StoreContext};
use crate::import;
use crate::options::MySqlOptions;
use crate::schema::initialise;
use crate::schema::migrate::{self, AppliedMigration, Migration, check_current};
use crate::schema::server::{self, SYNCS, check_version};

/// Connections that only leases use.
const LEASE_CONNECTIONS: u32 = 2;

/// What is prepared beside [`HOT`]: single questions of a start.
const STATEMENTS_BESIDE: usize = 16;

const SERVER: &str = "-- server
SELECT VERSION(), CAST(@@sql_mode AS CHAR), CAST(@@max_prepared_stmt_count AS SIGNED), {now}";

const PARTS: &str = "-- schema_version_all\nSELECT part, number, checksum, compatible_from FROM schema_version ORDER BY number";

/// # Errors
/// [`StoreError::Unusable`] with what to do about it; [`StoreError::Unavailable`] when the meta database is
/// unavailable. A data source that is unavailable is left out: its shards are served when it is back.
pub(super) async fn open(options: &MySqlOptions) -> Result<StoreContext> {
    options.check()?;
    let sealer = Sealer::new(&options.secret_key).map_err(StoreError::Internal)?;
    let meta = pair_of_pools("meta", &options.meta, options, STATEMENTS_BESIDE)?;
    check_server(&meta.db, options).await?;
    check_parts(&meta.db, &[("meta".to_owned(), migrate::META)]).await?;
    let sources_of_shards = read_initialised(&meta.db, options, &sealer).await?;
    let mut sources = Vec::new();
    // Any shard may be moved to any source while this process runs.
    let statements = STATEMENTS_BESIDE + sources_of_shards.len() * HOT.len();
    for source in &options.sources {
        sources.push(pair_of_pools(&source.name, &source.url, options, statements)?);
    }
    let mut servers = Servers::default();
    let checks =
        join_all(sources.iter().map(|source| check_source(source, &sources_of_shards, options))).await;
    for (checked, (source, at)) in checks.into_iter().zip(sources.iter().zip(&options.sources)) {
        let allowed = match checked {
            Ok(allowed) => allowed,
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::error!(source = at.name, %error, "a data source is unavailable, its shards wait");
                ALLOWED_BY_DEFAULT
            }
            Err(error) => return Err(error),
        };
        let shards = sources_of_shards.iter().filter(|name| *name == source.db.name()).count();
        servers.add(&at.url, &source.db, shards, allowed)?;
    }
    servers.prepare(options);
    let own = Arc::<OwnNode>::default();
    let held = shard_dbs(&sources_of_shards, &sources, &own)?;
    let context = StoreContext::new((meta.db, meta.leases), sealer, sources, held, own);
    follow::load(&context).await?;
    Ok(context)
}

fn pair_of_pools(name: &str, url: &str, options: &MySqlOptions, statements: usize) -> Result<Source> {
    let acquire_timeout = options.acquire_timeout.to_std();
    let settings = PoolSettings { connections: options.connections, acquire_timeout, statements };
    let leases =
        PoolSettings { connections: LEASE_CONNECTIONS, acquire_timeout, statements: STATEMENTS_BESIDE };
    Ok(Source {
        db: Db::lazy(name, pool::address(url, name)?, settings, options.entropy.clone()),
        leases: Db::lazy(name, pool::address(url, name)?, leases, options.entropy.clone()),
    })
}

fn shard_dbs(sources_of_shards: &[String], sources: &[Source], own: &Arc<OwnNode>) -> Result<Vec<ShardDb>> {
    let held = sources_of_shards.iter().zip(0..).map(|(source_name, number)| {
        let source = sources.iter().find(|source| source.db.name() == source_name);
        let (Some(shard), Some(source)) = (ShardId::new(number), source) else {
            return Err(StoreError::Internal(format!("shard {number} has no place")));
        };
        Ok(ShardDb::new(shard, source.db.clone(), own.clone()))
    });
    held.collect()
}

/// The number of shards and the key as they were fixed, and where each shard is.
async fn read_initialised(meta: &Db, options: &MySqlOptions, sealer: &Sealer) -> Result<Vec<String>> {
    let mut session = meta.conn().await?;
    let conn = session.raw()?;
    let missing =
        || StoreError::Unusable("the meta database was not made ready: run `tsp migrate`".to_owned());
    let shards = initialise::setting(conn, "shards").await?.ok_or_else(missing)?;
    check_shards(&shards, options.shards)?;
    import::state::refuse_half(conn).await?;
    let probe = initialise::setting(conn, "secret_probe").await?.ok_or_else(missing)?;
    initialise::check_key(&probe, sealer)?;
    initialise::known_sources(initialise::shard_sources(conn, options.shards).await?, options)
}

/// How many prepared statements its server allows.
async fn check_source(source: &Source, sources_of_shards: &[String], options: &MySqlOptions) -> Result<i64> {
    let allowed = check_server(&source.db, options).await?;
    let mut parts = vec![("source".to_owned(), migrate::SOURCE)];
    let held = sources_of_shards.iter().zip(0..).filter(|(source_name, _)| *source_name == source.db.name());
    parts.extend(held.filter_map(|(_, shard)| Some((migrate::part(ShardId::new(shard)?), migrate::SHARD))));
    check_parts(&source.db, &parts).await?;
    Ok(allowed)
}

/// How many prepared statements it allows.
async fn check_server(db: &Db, options: &MySqlOptions) -> Result<i64> {
    let (sql, syncs) = (db.sql(SERVER), db.sql(SYNCS));
    let (row, syncs, now) = db
        .read("check", |tx| {
            let (sql, syncs, clock) = (sql.clone(), syncs.clone(), options.clock.clone());
            Box::pin(async move {
                let before = clock.now();
                let row = query(&sql).fetch_one(tx.conn()).await?;
                let after = clock.now();
                let syncs = query(&syncs).fetch_one(tx.conn()).await?;
                Ok((row, syncs, Timestamp::from_ms(i64::midpoint(before.ms(), after.ms()))))
            })
        })
        .await?;
    let (version, mode): (String, String) = (row.get(0)?, row.get(1)?);
    let name = db.name();
    check_version(name, &version)?;
    if !mode.contains("STRICT_TRANS_TABLES") && !mode.contains("STRICT_ALL_TABLES") {
        return Err(StoreError::Unusable(format!(
            "the server of database `{name}` takes values that do not fit: add STRICT_TRANS_TABLES to its \
             sql_mode"
        )));
    }
    // It was refused when the tables were made. Whoever changed it since is warned, and all goes on.
    if let (false, Some(why)) = (options.allow_unsynced, server::unsynced(&syncs)?) {
        tracing::error!(database = name, why, "accepted tasks may be lost");
    }
    if let Some(why) = server::ends(&version, now) {
        tracing::warn!(database = name, why, "the database server must be upgraded");
    }
    let skew = now.ms().saturating_sub(row.get::<i64>(3)?);
    if skew.saturating_abs() > options.max_skew.ms() {
        tracing::warn!(database = name, skew_ms = skew, "this machine's clock is not the database's");
    }
    row.get(2)
}

async fn check_parts(db: &Db, parts: &[(String, &[Migration])]) -> Result<()> {
    let sql = db.sql(PARTS);
    let rows = db
        .read("check", |tx| {
            let sql = sql.clone();
            Box::pin(async move { query(&sql).fetch_all(tx.conn()).await })
        })
        .await;
    let rows = match rows {
        Err(error) if error.is(Cause::NoTable) => Vec::new(),
        other => other?,
    };
    let mut found: BTreeMap<String, Vec<AppliedMigration>> = BTreeMap::new();
    for row in rows {
        found.entry(row.get(0)?).or_default().push(AppliedMigration::read(&row, 1)?);
    }
    for (part, migrations) in parts {
        let stored = found.remove(part).unwrap_or_default();
        check_current(db.name(), part, &stored, migrations)?;
    }
    Ok(())
}

/// Prepared statements are limited for a server as a whole.
#[derive(Debug, Default)]
struct Servers {
    /// By address: how many statements it allows, how many shards it has, and its databases.
    servers: BTreeMap<String, (i64, usize, Vec<Db>)>,
}

impl Servers {
    fn add(&mut self, url: &str, db: &Db, shards: usize, allowed: i64) -> Result<()> {
        let address = pool::address(url, "database")?;
        let server = self.servers.entry(format!("{}:{}", address.get_host(), address.get_port()));
        let (limit, held, databases) = server.or_insert((allowed, 0, Vec::new()));
        *limit = allowed;
        *held += shards;
        databases.push(db.clone());
        Ok(())
    }

    /// Works out what is prepared, the same at each start on the same servers.
    fn prepare(&self, options: &MySqlOptions) {
        for (server, (allowed, shards, databases)) in &self.servers {
            let kept = prepared::kept(*allowed, options.processes, options.connections, *shards);
            tracing::info!(
                server,
                allowed,
                shards,
                of_each_shard = kept,
                wanted = HOT.len(),
                "prepared statements"
            );
            for db in databases {
                db.prepare(kept);
            }
        }
    }
}
