//! Rows in the databases of a cluster.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use peers::MariaDb;
use tsp_core::ConfigId;
use tsp_core::task_key::config_shard;

use super::{Copies, Progress, chunks, ended, values};
use crate::cluster::{Databases, SHARDS, status};
use crate::measure::instant;

/// Rows in a transaction.
const CHUNK: u64 = 200_000;
/// Cursors in a statement: it is an argument of the server's client.
const CURSORS: usize = 2_000;
const COPIES: Copies<'static> = Copies { n: "n.seq", place: "0", rows: 1, each: 0 };
const WRITTEN: &str =
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'HANDLER_WRITE'";
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Pages not yet written at which the server is quiet again.
const DIRTY_PAGES: f64 = 100.0;
const QUIET_LIMIT: Duration = Duration::from_mins(15);

/// Those of a table that take values: computed ones are not among them.
fn columns(server: &MariaDb, table: &str) -> Result<Vec<String>> {
    let columns = server.sql(&format!(
        "SELECT column_name FROM information_schema.columns WHERE CONCAT(table_schema, '.', table_name) = '{table}' \
         AND extra NOT LIKE '%GENERATED%' ORDER BY ordinal_position"
    ))?;
    ensure!(!columns.is_empty(), "there is no table `{table}`");
    Ok(columns.lines().map(str::to_owned).collect())
}

/// The number that a query answers with.
fn number(server: &MariaDb, query: &str) -> Result<i64> {
    let said = server.sql(query)?;
    said.trim().parse().with_context(|| format!("`{query}` answered `{said}`"))
}

/// See [`super::Tables::add_history`].
pub(super) fn add_history(
    server: &MariaDb,
    databases: &Databases,
    configs: &[String],
    rows: u64,
) -> Result<()> {
    let copies = Copies { rows: configs.len() as u64, each: rows / configs.len().max(1) as u64, ..COPIES };
    let mut progress = Progress::new("rows of history", rows);
    // With a small log the server would mostly write pages. For few rows it stays as it is: others may use the server.
    let log = (rows > CHUNK).then(|| number(server, "SELECT @@innodb_log_file_size")).transpose()?;
    if log.is_some() {
        server.sql("SET GLOBAL innodb_log_file_size = 1073741824")?;
    }
    for (place, config) in configs.iter().enumerate() {
        let meta = &databases.meta;
        let id = number(server, &format!("SELECT id FROM {meta}.config WHERE name = '{config}'"))?;
        let shard = config_shard(ConfigId::new(id), SHARDS).get();
        let (table, balance) = (databases.table("history", shard), databases.table("balance", shard));
        let columns = columns(server, &table)?;
        let newest = number(server, &format!("SELECT MIN(id) FROM {table} WHERE config_id = {id}"))
            .with_context(|| format!("no task of `{config}` has ended"))?;
        let at = place.to_string();
        let copies = Copies { place: &at, ..copies };
        let key = format!("CONCAT('order-', LPAD(LOWER(HEX({})), 16, '0'))", copies.key_number());
        let values = values(&columns, |column| match column {
            "task_key" => Some(key.clone()),
            "key_hash" => Some(format!("UNHEX(LEFT(SHA2({key}, 256), 32))")),
            _ => ended(copies, newest, column),
        });
        let columns = columns.join(", ");
        for (first, last) in chunks(copies.each, CHUNK) {
            let added = last + 1 - first;
            server.sql(&format!(
                "USE {meta}; SET unique_checks = 0; START TRANSACTION;
                 INSERT INTO {table} ({columns}) SELECT {values} FROM seq_{first}_to_{last} n
                 JOIN (SELECT * FROM {table} WHERE id = {newest}) t;
                 INSERT INTO {balance} (node, accepted, ended, dropped) VALUES (0, {added}, {added}, 0)
                 ON DUPLICATE KEY UPDATE accepted = accepted + {added}, ended = ended + {added}; COMMIT"
            ))?;
            progress.at(place as u64 * copies.each + last);
        }
    }
    if let Some(log) = log {
        server.sql(&format!("SET GLOBAL innodb_log_file_size = {log}"))?;
    }
    Ok(())
}

/// See [`super::Tables::add_configs`].
pub(super) fn add_configs(server: &MariaDb, databases: &Databases, prefix: &str, copies: u64) -> Result<()> {
    let table = format!("{}.config", databases.meta);
    let first = number(server, &format!("SELECT id FROM {table} WHERE name = '{prefix}-0'"))
        .with_context(|| format!("there is no config `{prefix}-0`"))?;
    let mut columns = columns(server, &table)?;
    columns.retain(|column| column != "id");
    let name = format!("CONCAT('{prefix}-', {})", COPIES.n);
    let values = values(&columns, |column| match column {
        "name" => Some(name.clone()),
        "document" => Some(format!("REPLACE(t.document, '\"{prefix}-0\"', CONCAT('\"', {name}, '\"'))")),
        _ => None,
    });
    let columns = columns.join(", ");
    let mut progress = Progress::new("configs", copies);
    for (from, to) in chunks(copies, CHUNK) {
        server.sql(&format!(
            "USE {}; INSERT INTO {table} ({columns}) SELECT {values} FROM seq_{from}_to_{to} n
             JOIN (SELECT * FROM {table} WHERE id = {first}) t",
            databases.meta
        ))?;
        progress.at(to);
    }
    Ok(())
}

/// See [`super::Tables::add_cursors`].
pub(super) fn add_cursors(
    server: &MariaDb,
    databases: &Databases,
    prefix: &str,
    next_fire_at: i64,
) -> Result<()> {
    let find = format!("SELECT id, version FROM {}.config WHERE name LIKE '{prefix}-%'", databases.meta);
    let mut shards: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for row in server.sql(&find)?.lines() {
        let (id, version) = row.split_once('\t').with_context(|| format!("id and version: `{row}`"))?;
        let shard = config_shard(ConfigId::new(id.parse()?), SHARDS).get();
        shards.entry(shard).or_default().push(format!("({id}, {next_fire_at}, 1, {version}, 0)"));
    }
    for (shard, cursors) in shards {
        let table = databases.table("cursor", shard);
        for rows in cursors.chunks(CURSORS) {
            server.sql(&format!(
                "INSERT IGNORE INTO {table} (config_id, next_fire_at, version, config_version, missed) VALUES {}",
                rows.join(", ")
            ))?;
        }
    }
    Ok(())
}

/// Runs statements that write so many rows, and says how far they are.
pub(crate) fn sql_with_progress(server: &MariaDb, what: &str, rows: u64, text: &str) -> Result<()> {
    let written = || number(server, WRITTEN);
    let (before, mut progress) = (written()?, Progress::new(what, rows));
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        // Nobody is left to hear of it only when asking has failed.
        scope.spawn(|| drop(done.send(server.sql(text))));
        loop {
            match is_done.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => {
                    progress.at(u64::try_from(written()? - before).unwrap_or(0).min(rows));
                }
                Ok(filled) => return filled.map(drop).context("filling a table"),
                Err(RecvTimeoutError::Disconnected) => bail!("the thread that fills a table ended early"),
            }
        }
    })
}

/// Waits until the server has written what it was filled with: it would go on with that beside what is measured.
pub(crate) async fn quiet(server: &MariaDb) -> Result<()> {
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")?;
    let start = instant();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    while status(server, "INNODB\\_BUFFER\\_POOL\\_PAGES\\_DIRTY")? > DIRTY_PAGES {
        ensure!(start.elapsed() < QUIET_LIMIT, "the server still writes after {QUIET_LIMIT:?}");
        tick.tick().await;
    }
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 90")?;
    Ok(())
}
