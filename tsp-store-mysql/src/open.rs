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
use crate::connection::own::Own;
use crate::connection::pool::{self, PoolSettings};
use crate::connection::session::query;
use crate::connection::statement_templates::{STATEMENTS_OF_DATABASE, STATEMENTS_OF_SHARD};
use crate::context::{Source, StoreContext};
use crate::import;
use crate::options::MySqlOptions;
use crate::schema::initialise;
use crate::schema::migrate::{self, Applied, Migration, check_current};
use crate::schema::server::{self, SYNCS, check_version};

/// Connections that only leases use.
const LEASE_CONNECTIONS: u32 = 2;

const SERVER: &str = "-- server
SELECT VERSION(), CAST(@@sql_mode AS CHAR), CAST(@@max_prepared_stmt_count AS SIGNED), {now}";

const PARTS: &str = "-- schema_version_all\nSELECT part, number, checksum, compatible_from FROM schema_version ORDER BY number";

/// # Errors
/// [`StoreError::Unusable`] with what to do about it; [`StoreError::Unavailable`] when the meta database is
/// unavailable. A data source that is unavailable is left out: its shards are served when it is back.
pub(super) async fn open(options: &MySqlOptions) -> Result<StoreContext> {
    options.check()?;
    let sealer = Sealer::new(&options.secret_key).map_err(StoreError::Internal)?;
    let meta = pair_of_pools("meta", &options.meta, options, STATEMENTS_OF_DATABASE)?;
    let server = check_server(&meta.db, options).await?;
    check_parts(&meta.db, &[("meta".to_owned(), migrate::META)]).await?;
    let sources_of_shards = read_initialised(&meta.db, options, &sealer).await?;
    let mut sources = Vec::new();
    // Any shard may be moved to any source while this process runs.
    let statements = STATEMENTS_OF_DATABASE + sources_of_shards.len() * STATEMENTS_OF_SHARD;
    for source in &options.sources {
        sources.push(pair_of_pools(&source.name, &source.url, options, statements)?);
    }
    let mut budget = Budget::default();
    budget.add(&options.meta, STATEMENTS_OF_DATABASE, server.statements)?;
    let checks =
        join_all(sources.iter().map(|source| check_source(source, &sources_of_shards, options))).await;
    for (checked, source) in checks.into_iter().zip(&options.sources) {
        match checked {
            Ok((server, statements)) => budget.add(&source.url, statements, server.statements)?,
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::error!(source = source.name, %error, "a data source is unavailable, its shards wait");
            }
            Err(error) => return Err(error),
        }
    }
    budget.check(options)?;
    let own = Arc::<Own>::default();
    let held = shard_dbs(&sources_of_shards, &sources, &own)?;
    let context = StoreContext::new((meta.db, meta.leases), sealer, sources, held, own);
    follow::load(&context).await?;
    Ok(context)
}

fn pair_of_pools(name: &str, url: &str, options: &MySqlOptions, statements: usize) -> Result<Source> {
    let acquire_timeout = options.acquire_timeout.to_std();
    let settings = PoolSettings { connections: options.connections, acquire_timeout, statements };
    let leases =
        PoolSettings { connections: LEASE_CONNECTIONS, acquire_timeout, statements: STATEMENTS_OF_DATABASE };
    Ok(Source {
        db: Db::lazy(name, pool::address(url, name)?, settings, options.entropy.clone()),
        leases: Db::lazy(name, pool::address(url, name)?, leases, options.entropy.clone()),
    })
}

fn shard_dbs(sources_of_shards: &[String], sources: &[Source], own: &Arc<Own>) -> Result<Vec<ShardDb>> {
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

/// What a server is able to do.
struct Server {
    statements: i64,
}

async fn check_source(
    source: &Source,
    sources_of_shards: &[String],
    options: &MySqlOptions,
) -> Result<(Server, usize)> {
    let server = check_server(&source.db, options).await?;
    let mut parts = vec![("source".to_owned(), migrate::SOURCE)];
    let held = sources_of_shards.iter().zip(0..).filter(|(source_name, _)| *source_name == source.db.name());
    parts.extend(held.filter_map(|(_, shard)| Some((migrate::part(ShardId::new(shard)?), migrate::SHARD))));
    check_parts(&source.db, &parts).await?;
    Ok((server, STATEMENTS_OF_DATABASE + (parts.len() - 1) * STATEMENTS_OF_SHARD))
}

async fn check_server(db: &Db, options: &MySqlOptions) -> Result<Server> {
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
    Ok(Server { statements: row.get(2)? })
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
    let mut found: BTreeMap<String, Vec<Applied>> = BTreeMap::new();
    for row in rows {
        found.entry(row.get(0)?).or_default().push(Applied::read(&row, 1)?);
    }
    for (part, migrations) in parts {
        let stored = found.remove(part).unwrap_or_default();
        check_current(db.name(), part, &stored, migrations)?;
    }
    Ok(())
}

/// Prepared statements live on the server, for each connection its own, and their number is limited for the
/// whole server.
#[derive(Debug, Default)]
struct Budget {
    /// By server: the most texts of one connection to each of its databases, and what the server allows.
    servers: BTreeMap<String, (usize, i64)>,
}

impl Budget {
    fn add(&mut self, url: &str, statements: usize, allowed: i64) -> Result<()> {
        let address = pool::address(url, "database")?;
        let entry = self.servers.entry(format!("{}:{}", address.get_host(), address.get_port()));
        let (sum, limit) = entry.or_insert((0, allowed));
        *sum += statements;
        *limit = allowed;
        Ok(())
    }

    fn check(&self, options: &MySqlOptions) -> Result<()> {
        for (server, (statements, allowed)) in &self.servers {
            let own =
                i64::try_from(*statements).unwrap_or(i64::MAX).saturating_mul(i64::from(options.connections));
            let all = own.saturating_mul(i64::from(options.processes.max(1)));
            if own > *allowed {
                return Err(StoreError::Unusable(format!(
                    "this process alone may prepare {own} statements on {server}, which allows {allowed} to \
                     all: `SET GLOBAL max_prepared_stmt_count = {}`, or set fewer `store.connections`",
                    all.saturating_mul(2)
                )));
            }
            if all.saturating_mul(2) > *allowed {
                tracing::error!(
                    server,
                    all,
                    allowed,
                    "all processes together may prepare more than half of the statements that the server \
                     allows: raise max_prepared_stmt_count"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::site::options;

    #[test]
    fn the_statement_budget_counts_all_databases_of_a_server() {
        let options = MySqlOptions { processes: 2, ..options("", "", 4, [0; 32]) };
        let mut budget = Budget::default();
        budget.add("mysql://u:p@h:1/a", 400, 10_000).unwrap();
        budget.add("mysql://u:p@h:2/a", 400, 10_000).unwrap();
        budget.check(&options).unwrap();
        budget.add("mysql://u:p@h:1/b", 400, 10_000).unwrap();
        let refused = budget.check(&options).unwrap_err().to_string();
        assert!(refused.contains("may prepare 12800") && refused.contains("51200"), "{refused}");
    }
}
