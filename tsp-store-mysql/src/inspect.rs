//! A view of the databases of a cluster that needs nothing to be right: each is asked on its own, shortly.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tsp_core::{Millis, ShardId, Timestamp};
use tsp_store::backend::settings::check_shards;
use tsp_store::documents::Sealer;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::link::Link;
use crate::connection::statement_templates::database_now;
use crate::import;
use crate::moving::mover;
use crate::options::MySqlOptions;
use crate::schema::initialise;
use crate::schema::migrate::{self, AppliedMigration, check_current};
use crate::schema::move_record;
use crate::schema::problem::{Problem, ProblemKind};
use crate::schema::server::{self, SYNCS, check_version};

/// How long one database may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    /// Meta first, then the data sources.
    pub databases: Vec<DatabaseView>,
    /// What is wrong with the number of shards, the secret key and the shard map.
    pub fixed: Vec<String>,
    pub nodes: Vec<NodeFacts>,
    /// Where each shard is, as far as meta says it.
    pub sources_of_shards: BTreeMap<u16, String>,
    /// Shards that are being moved, and where to.
    pub moving: BTreeMap<u16, String>,
    /// The last change of the catalog.
    pub config_seq: i64,
}

/// A database, or why it cannot be asked.
#[derive(Debug, Clone)]
pub struct DatabaseView {
    pub name: String,
    pub found: Result<DatabaseFacts, String>,
}

#[derive(Debug, Clone, Default)]
pub struct DatabaseFacts {
    /// As the server gives it: `10.11.6-MariaDB`.
    pub version: String,
    /// What keeps it from being used.
    pub wrong: Vec<Problem>,
    /// What somebody should know.
    pub notes: Vec<String>,
    /// How far its clock is ahead of this machine's.
    pub ahead: Millis,
    /// How many prepared statements the server allows, and has.
    pub statements: (i64, i64),
    /// How many connections it allows, and has.
    pub connections: (i64, i64),
    /// Of the shards that it holds, if it is a data source.
    pub leases: Vec<LeaseFacts>,
    /// `host:port`; databases of one server share its limits.
    pub server: String,
}

/// The lease of a group on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseFacts {
    pub group: String,
    pub shard: u16,
    /// 0: free.
    pub owner: i64,
    /// How long it has been over, by its database's clock; below zero: it lasts.
    pub expired_for: Millis,
}

/// A process that is not dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    pub id: i64,
    pub name: String,
    pub roles: String,
    pub version: String,
    /// As [`LeaseFacts::expired_for`].
    pub expired_for: Millis,
    pub clock_offset: Millis,
    pub config_seq: i64,
}

const SERVER: &str = concat!(
    "-- doctor_server
SELECT VERSION(), CAST(@@sql_mode AS CHAR), CAST(@@max_prepared_stmt_count AS SIGNED),
    CAST(@@max_connections AS SIGNED), CAST(@@read_only AS SIGNED), ",
    database_now!()
);

const STATUS: &str = "-- doctor_status
SHOW GLOBAL STATUS WHERE Variable_name IN ('Prepared_stmt_count', 'Threads_connected')";

const NODES: &str = concat!(
    "-- doctor_nodes
SELECT id, name, roles, version, ",
    database_now!(),
    " - lease_until, clock_offset, config_seq FROM node WHERE dead_at IS NULL ORDER BY id"
);

const LEASES: &str = concat!(
    "-- doctor_leases
SELECT group_name, CAST(shard AS SIGNED), owner, ",
    database_now!(),
    " - lease_until FROM shard_lease ORDER BY group_name, shard"
);

/// Asks all; of what cannot be reached the error stands in its stead.
pub(super) async fn inspect(options: &MySqlOptions) -> ClusterView {
    let mut view = ClusterView::default();
    if let Err(error) = options.check() {
        view.fixed.push(error.to_string());
        return view;
    }
    let found = within(look_at_meta(options, &mut view)).await;
    view.databases.push(DatabaseView { name: "meta".to_owned(), found });
    let sources_of_shards = &view.sources_of_shards;
    let looks = options.sources.iter().map(async |source| {
        let held = sources_of_shards
            .iter()
            .filter(|(_, source_name)| **source_name == source.name)
            .map(|(shard, _)| *shard);
        let found = within(look_at_source(&source.name, &source.url, held.collect(), options)).await;
        DatabaseView { name: source.name.clone(), found }
    });
    let sources = join_all(looks).await;
    view.databases.extend(sources);
    view
}

async fn within<T>(look: impl Future<Output = Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, look).await {
        Ok(found) => found.map_err(|error| match error {
            StoreError::Unavailable { why, .. } => why,
            other => other.to_string(),
        }),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn look_at_meta(options: &MySqlOptions, view: &mut ClusterView) -> Result<DatabaseFacts> {
    let mut link = Link::connect("meta", &options.meta).await?;
    let mut facts = facts(&mut link, &options.meta, options).await?;
    facts.wrong.extend(schema(&mut link, &[("meta".to_owned(), migrate::META)]).await);
    if facts.wrong.iter().any(|wrong| wrong.kind == ProblemKind::NotMigrated) {
        return Ok(facts);
    }
    if let Err(error) = look_at_fixed(&mut link, options, view).await {
        view.fixed.push(error.to_string());
    }
    for row in link.rows(NODES.to_owned()).await? {
        view.nodes.push(NodeFacts {
            id: row.get(0)?,
            name: row.get(1)?,
            roles: row.get(2)?,
            version: row.get(3)?,
            expired_for: Millis::from_ms(row.get(4)?),
            clock_offset: Millis::from_ms(row.get(5)?),
            config_seq: row.get(6)?,
        });
    }
    let seq = "-- change_seq\nSELECT value FROM counter WHERE name = 'change'";
    view.config_seq = link.number(seq.to_owned()).await?;
    link.close().await;
    Ok(facts)
}

async fn look_at_fixed(link: &mut Link, options: &MySqlOptions, view: &mut ClusterView) -> Result<()> {
    let missing =
        || StoreError::Unusable("the meta database was not made ready: run `tsp migrate`".to_owned());
    let shards = initialise::setting(link.raw(), "shards").await?.ok_or_else(missing)?;
    check_shards(&shards, options.shards)?;
    let sealer = Sealer::new(&options.secret_key).map_err(StoreError::Internal)?;
    let probe = initialise::setting(link.raw(), "secret_probe").await?.ok_or_else(missing)?;
    if let Err(error) = initialise::check_key(&probe, &sealer) {
        view.fixed.push(error.to_string());
    }
    if let Err(error) = import::state::refuse_half(link.raw()).await {
        view.fixed.push(error.to_string());
    }
    let sources_of_shards = initialise::shard_sources(link.raw(), options.shards).await?;
    view.sources_of_shards = (0..)
        .zip(&sources_of_shards)
        .filter_map(|(shard, source_name)| Some((shard, source_name.clone()?)))
        .collect();
    initialise::known_sources(sources_of_shards, options)?;
    for (shard, to) in move_record::all(link.raw()).await? {
        view.moving.insert(shard, to);
    }
    Ok(())
}

async fn look_at_source(
    name: &str,
    url: &str,
    held: Vec<u16>,
    options: &MySqlOptions,
) -> Result<DatabaseFacts> {
    let mut link = Link::connect(name, url).await?;
    let mut facts = facts(&mut link, url, options).await?;
    let shards: Vec<ShardId> = held.into_iter().filter_map(ShardId::new).collect();
    let mut parts = vec![("source".to_owned(), migrate::SOURCE)];
    parts.extend(shards.iter().map(|shard| (migrate::part(*shard), migrate::SHARD)));
    facts.wrong.extend(schema(&mut link, &parts).await);
    if facts.wrong.iter().any(|wrong| wrong.kind == ProblemKind::NotMigrated) {
        return Ok(facts);
    }
    for shard in shards {
        let missing = mover::missing_tables(&mut link, shard).await?;
        if !missing.is_empty() {
            let text = format!("tables of shard {} are not there: {}", shard.get(), missing.join(", "));
            facts.wrong.push(Problem::new(ProblemKind::TablesMissing, text));
        }
    }
    for row in link.rows(LEASES.to_owned()).await? {
        facts.leases.push(LeaseFacts {
            group: row.get(0)?,
            shard: u16::try_from(row.get::<i64>(1)?).unwrap_or(u16::MAX),
            owner: row.get(2)?,
            expired_for: Millis::from_ms(row.get(3)?),
        });
    }
    link.close().await;
    Ok(facts)
}

async fn facts(link: &mut Link, url: &str, options: &MySqlOptions) -> Result<DatabaseFacts> {
    let address = crate::connection::pool::address(url, &link.name)?;
    let before = options.clock.now();
    let rows = link.rows(SERVER.to_owned()).await?;
    let after = options.clock.now();
    let row = rows.first().ok_or_else(|| StoreError::Internal("the server gave no row".to_owned()))?;
    let now: i64 = row.get(5)?;
    let (version, mode): (String, String) = (row.get(0)?, row.get(1)?);
    let mut wrong = Vec::new();
    wrong.extend(check_version(&link.name, &version).err());
    if !mode.contains("STRICT_TRANS_TABLES") && !mode.contains("STRICT_ALL_TABLES") {
        wrong.push(Problem::of_server(
            "it takes values that do not fit: add STRICT_TRANS_TABLES to its sql_mode",
        ));
    }
    if row.get::<i64>(4)? != 0 {
        wrong.push(Problem::of_server("it is read-only: a replica, or one that was failed over"));
    }
    let mut notes: Vec<String> = server::ends(&version, Timestamp::from_ms(now)).into_iter().collect();
    let syncs = link.rows(SYNCS.to_owned()).await?;
    if let Some(why) = syncs.first().map(server::unsynced).transpose()?.flatten() {
        if options.allow_unsynced {
            notes.push(why);
        } else {
            wrong.push(Problem::of_server(why));
        }
    }
    let mut status: BTreeMap<String, i64> = BTreeMap::new();
    for row in link.rows(STATUS.to_owned()).await? {
        let (name, value): (String, String) = (row.get(0)?, row.get(1)?);
        status.insert(name, value.parse().unwrap_or(0));
    }
    let of = |name: &str| status.get(name).copied().unwrap_or(0);
    Ok(DatabaseFacts {
        version,
        wrong,
        notes,
        ahead: Millis::from_ms(now - i64::midpoint(before.ms(), after.ms())),
        statements: (row.get(2)?, of("Prepared_stmt_count")),
        connections: (row.get(3)?, of("Threads_connected")),
        leases: Vec::new(),
        server: format!("{}:{}", address.get_host(), address.get_port()),
    })
}

/// What is wrong with the schema of a database.
async fn schema(link: &mut Link, parts: &[(String, &[migrate::Migration])]) -> Vec<Problem> {
    let text = "-- doctor_schema
        SELECT part, number, checksum, compatible_from FROM schema_version ORDER BY number";
    let mut found: BTreeMap<String, Vec<AppliedMigration>> = BTreeMap::new();
    match link.rows(text.to_owned()).await {
        Ok(rows) => {
            for row in &rows {
                if let (Ok(part), Ok(applied)) = (row.get(0), AppliedMigration::read(row, 1)) {
                    found.entry(part).or_default().push(applied);
                }
            }
        }
        Err(error) if error.is(Cause::NoTable) => {}
        Err(error) => return vec![Problem::of_server(error.to_string())],
    }
    let check = |(part, migrations): &(String, &[migrate::Migration])| {
        let stored = found.get(part).map_or(&[][..], Vec::as_slice);
        check_current(&link.name, part, stored, migrations).err()
    };
    parts.iter().filter_map(check).collect()
}
