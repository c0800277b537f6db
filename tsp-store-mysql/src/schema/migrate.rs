//! Brings the schema of all databases up to this binary's (`migrations/README.md`).

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tsp_core::{ShardId, Timestamp};
use tsp_store::backend::settings::check_shard_count;
use tsp_store::documents::Sealer;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::pool;
use crate::connection::row::Row;
use crate::connection::statement_templates::{database_now, made};
use crate::options::MySqlOptions;
use crate::schema::day_partitions::first_partitions;
use crate::schema::initialise;
use crate::schema::move_record;
use crate::schema::problem::{Problem, ProblemKind};
use crate::schema::server::refuse_unsynced;

/// One step of a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    /// A binary that knows the steps up to this one may go on with the schema that this step makes. Its own
    /// number for one that takes away or changes what the release before uses.
    pub(crate) compatible_from: i64,
}

/// `2 "notices" for 1`: binaries that know up to 1 may use it.
macro_rules! migrations {
    ($folder:literal: $($number:literal $name:literal for $from:literal),+) => {
        &[$(Migration {
            number: $number,
            name: $name,
            text: include_str!(concat!("../../../migrations/mysql/", $folder, "/000", $number, "_", $name, ".sql")),
            compatible_from: $from,
        }),+]
    };
}

pub(crate) const META: &[Migration] = migrations!("meta": 1 "init" for 1);
pub(crate) const SOURCE: &[Migration] = migrations!("source": 1 "init" for 1);
pub(crate) const SHARD: &[Migration] =
    migrations!("shard": 1 "init" for 1, 2 "config_state" for 1, 3 "phase" for 2);

/// `part`: `meta`, `source`, or a shard's number: parts may share a database. `compatible_from` tells binaries
/// that do not know the step whether they may go on.
const TABLE: &str = "-- schema_version_table
CREATE TABLE IF NOT EXISTS schema_version (
    part            VARCHAR(32) NOT NULL,
    number          BIGINT NOT NULL,
    name            VARCHAR(64) NOT NULL,
    checksum        VARCHAR(64) NOT NULL,
    compatible_from BIGINT NOT NULL,
    applied_at      BIGINT NOT NULL,
    PRIMARY KEY (part, number)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin";

/// Held by the connection to meta, and gone with it: whoever migrates a cluster begins there. By database,
/// because the lock is the server's and may be of several clusters.
const LOCK: &str = "-- migrate_lock
SELECT CAST(GET_LOCK(LEFT(CONCAT('tsp_migrate.', DATABASE()), 64), 120) AS SIGNED)";

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrateReport {
    /// Migrations that were applied now, as `<database> <part> <number> <name>`.
    pub applied: Vec<String>,
    /// Shards that got their data source now.
    pub assigned: Vec<u16>,
}

/// What the meta database's clock says.
pub(crate) async fn time(options: &MySqlOptions) -> Result<Timestamp> {
    options.check()?;
    let mut conn = pool::address(&options.meta, "meta")?.connect().await.map_err(store_error)?;
    let row = sqlx::query(concat!("-- clock\nSELECT ", database_now!())).fetch_one(&mut conn).await;
    let now = Row(row.map_err(store_error)?).get(0)?;
    conn.close().await.map_err(store_error)?;
    Ok(Timestamp::from_ms(now))
}

pub(crate) async fn migrate(options: &MySqlOptions, now: Timestamp) -> Result<MigrateReport> {
    options.check()?;
    let sealer = Sealer::new(&options.secret_key).map_err(StoreError::Internal)?;
    let mut report = MigrateReport::default();
    let mut meta = Site::connect("meta", &options.meta, options, now).await?;
    meta.lock().await?;
    meta.bring_up("meta", None, META, &mut report).await?;
    initialise::initialise_shards(&mut meta.conn, options.shards).await?;
    initialise::initialise_key(&mut meta.conn, &sealer).await?;
    let places = initialise::assign_shards(&mut meta.conn, options, &mut report.assigned).await?;
    let moves: BTreeMap<u16, String> = move_record::all(&mut meta.conn).await?.into_iter().collect();
    for source in &options.sources {
        let shards = places.iter().zip(0..).filter(|(name, _)| **name == source.name);
        let shards: Vec<ShardId> = shards.filter_map(|(_, shard)| ShardId::new(shard)).collect();
        let mut site = Site::connect(&source.name, &source.url, options, now).await?;
        site.bring_up("source", None, SOURCE, &mut report).await?;
        for shard in shards {
            if let Some(to) = moves.get(&shard.get()) {
                site.refuse_behind(shard, to).await?;
            }
            site.bring_up(&part(shard), Some(shard), SHARD, &mut report).await?;
            site.begin_epochs(shard).await?;
        }
        site.close().await?;
    }
    meta.close().await?;
    Ok(report)
}

/// The name of a shard in `schema_version`.
pub(crate) fn part(shard: ShardId) -> String {
    format!("shard_{:03}", shard.get())
}

/// Waits until nobody else migrates this cluster or moves a shard of it; holds as long as the connection.
pub(crate) async fn lock(conn: &mut MySqlConnection, name: &str) -> Result<()> {
    let row = sqlx::query(LOCK).fetch_one(conn).await.map_err(store_error)?;
    if Row(row).get::<Option<i64>>(0)? == Some(1) {
        return Ok(());
    }
    Err(Cause::Busy.because(format!(
        "somebody else has been migrating `{name}`, or moving a shard, for two minutes: try again later"
    )))
}

/// A database being migrated, on a connection of its own.
struct Site {
    name: String,
    conn: MySqlConnection,
    now: Timestamp,
}

impl Site {
    async fn connect(name: &str, url: &str, options: &MySqlOptions, now: Timestamp) -> Result<Self> {
        let mut conn = pool::address(url, name)?.connect().await.map_err(store_error)?;
        if !options.allow_unsynced {
            refuse_unsynced(&mut conn, name).await?;
        }
        sqlx::raw_sql(TABLE).execute(&mut conn).await.map_err(store_error)?;
        Ok(Self { name: name.to_owned(), conn, now })
    }

    /// Waits until nobody else migrates this cluster.
    async fn lock(&mut self) -> Result<()> {
        lock(&mut self.conn, &self.name).await
    }

    async fn bring_up(
        &mut self,
        part: &str,
        shard: Option<ShardId>,
        migrations: &[Migration],
        report: &mut MigrateReport,
    ) -> Result<()> {
        let found = stored(&mut self.conn, part).await?;
        check(&self.name, part, &found, migrations)?;
        for Migration { number, name, text, compatible_from } in missing(&found, migrations) {
            // DDL commits by itself: what fails half-way is made again from the start, so every statement
            // says IF NOT EXISTS.
            let statements = match shard {
                Some(shard) => text
                    .replace("{shard}", &format!("{:03}", shard.get()))
                    .replace("{days}", &first_partitions(self.now)),
                None => (*text).to_owned(),
            };
            sqlx::raw_sql(made(statements)).execute(&mut self.conn).await.map_err(store_error)?;
            sqlx::query(
                "-- schema_version_insert
                INSERT INTO schema_version (part, number, name, checksum, compatible_from, applied_at)
                VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(part)
            .bind(number)
            .bind(name)
            .bind(checksum(text))
            .bind(compatible_from)
            .bind(self.now.ms())
            .execute(&mut self.conn)
            .await
            .map_err(store_error)?;
            report.applied.push(format!("{} {part} {number} {name}", self.name));
        }
        Ok(())
    }

    /// A shard that is on its way has its tables under other names, and copies of them elsewhere.
    async fn refuse_behind(&mut self, shard: ShardId, to: &str) -> Result<()> {
        let found = stored(&mut self.conn, &part(shard)).await?;
        if missing(&found, SHARD).next().is_none() {
            return Ok(());
        }
        let shard = shard.get();
        Err(StoreError::Unusable(format!(
            "shard {shard} was being moved, and is not upgraded on its way: end it with the binary that began it, \
             `tsp shard move {shard} --to '{to}'`, or take it back with `--undo`; then migrate again"
        )))
    }

    async fn begin_epochs(&mut self, shard: ShardId) -> Result<()> {
        sqlx::query(
            "-- epoch_insert\nINSERT INTO shard_epoch (shard, epoch) VALUES (?, 0) \
             ON DUPLICATE KEY UPDATE shard = shard",
        )
        .bind(i64::from(shard.get()))
        .execute(&mut self.conn)
        .await
        .map_err(store_error)?;
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.conn.close().await.map_err(store_error)
    }
}

/// A step that a part has.
#[derive(Debug, Clone)]
pub(crate) struct AppliedMigration {
    pub(crate) number: i64,
    pub(crate) checksum: String,
    pub(crate) compatible_from: i64,
}

impl AppliedMigration {
    /// From the columns `number`, `checksum`, `compatible_from`, the first of them at `at`.
    pub(crate) fn read(row: &Row, at: usize) -> Result<Self> {
        Ok(Self { number: row.get(at)?, checksum: row.get(at + 1)?, compatible_from: row.get(at + 2)? })
    }
}

async fn stored(conn: &mut MySqlConnection, part: &str) -> Result<Vec<AppliedMigration>> {
    let rows = sqlx::query(
        "-- schema_version_part
        SELECT number, checksum, compatible_from FROM schema_version WHERE part = ? ORDER BY number",
    )
    .bind(part)
    .fetch_all(conn)
    .await
    .map_err(store_error)?;
    rows.into_iter().map(|row| AppliedMigration::read(&Row(row), 0)).collect()
}

fn missing<'m>(
    found: &[AppliedMigration],
    migrations: &'m [Migration],
) -> impl Iterator<Item = &'m Migration> {
    migrations.iter().filter(|one| !found.iter().any(|has| has.number == one.number))
}

/// A schema may be ahead of this binary by steps that leave it usable: the new release migrates first, and
/// its processes replace the old ones one by one.
///
/// # Errors
/// For a schema that is too new, or was made by another build.
pub(crate) fn check(
    database: &str,
    part: &str,
    found: &[AppliedMigration],
    migrations: &[Migration],
) -> Result<(), Problem> {
    let other_build = |text| Problem::new(ProblemKind::OtherBuild, text);
    let known = migrations.last().map_or(0, |migration| migration.number);
    for applied in found {
        let number = applied.number;
        let Some(migration) = migrations.iter().find(|one| one.number == number) else {
            if number > known && applied.compatible_from <= known {
                continue;
            }
            return Err(other_build(format!(
                "database `{database}` has schema {number} of `{part}`, this binary knows up to {known}: use \
                 the newer binary that upgraded it"
            )));
        };
        if applied.checksum != checksum(migration.text) {
            return Err(other_build(format!(
                "migration {number} (`{}`) of `{part}` in database `{database}` is not the one this binary \
                 knows: it was made by another build; use that build",
                migration.name
            )));
        }
    }
    Ok(())
}

/// # Errors
/// As [`check`], and for a schema that is not up to date.
pub(crate) fn check_current(
    database: &str,
    part: &str,
    found: &[AppliedMigration],
    migrations: &[Migration],
) -> Result<(), Problem> {
    check(database, part, found, migrations)?;
    let missing = missing(found, migrations).count();
    if missing == 0 {
        return Ok(());
    }
    let text = format!(
        "database `{database}` has {} of {} migrations of `{part}`: run `tsp migrate`",
        migrations.len() - missing,
        migrations.len()
    );
    Err(Problem::new(ProblemKind::NotMigrated, text))
}

fn checksum(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

/// What cannot be right whatever the databases hold.
impl MySqlOptions {
    pub(crate) fn check(&self) -> Result<()> {
        let unusable = |why: String| Err(StoreError::Unusable(why));
        check_shard_count(self.shards)?;
        if self.connections == 0 {
            return unusable("`store.connections` is 0: there must be one".to_owned());
        }
        for (at, source) in self.sources.iter().enumerate() {
            if source.name.is_empty() || source.name.len() > 64 || source.name == "meta" {
                return unusable(format!(
                    "`{}` is no name for a data source: 1 to 64 bytes, and not `meta`",
                    source.name
                ));
            }
            if self.sources[..at].iter().any(|other| other.name == source.name) {
                return unusable(format!("two data sources have the name `{}`", source.name));
            }
        }
        Ok(())
    }
}
