//! What only the tables tell or take: how many tasks are claimed at an instant, and a long past that nobody would
//! wait for.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use tsp_core::ConfigId;
use tsp_core::key::config_shard;

use crate::cluster::{Databases, SHARDS, Servers};
use crate::service::Service;

/// Bits of an id below its time.
const BELOW_TIME: u32 = 22;

/// Tasks that are claimed, or further, and not ended.
pub(crate) fn claimed(service: &Service) -> Result<usize> {
    if let Some((servers, databases)) = service.cluster() {
        let of_shard = |shard| {
            format!(
                "SELECT COUNT(*) AS n FROM {} WHERE status BETWEEN 10 AND 30",
                databases.table("task", shard)
            )
        };
        let all: Vec<_> = (0..SHARDS).map(of_shard).collect();
        // A claim that is not committed yet is work as well.
        let said = servers.sql(&format!(
            "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; SELECT SUM(n) FROM ({}) AS shards",
            all.join(" UNION ALL ")
        ))?;
        return said.trim().parse().with_context(|| format!("claimed tasks: `{said}`"));
    }
    let file = service.file().context("it has a database")?;
    let reader = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let count = "SELECT COUNT(*) FROM task WHERE status BETWEEN 10 AND 30";
    Ok(usize::try_from(reader.query_row(count, [], |row| row.get::<_, i64>(0))?)?)
}

/// Ended tasks of these configs, about so many in all: copies of the one that each has, with keys of their own, each
/// two of them a millisecond apart. The processes must be stopped.
pub(crate) fn add_history(service: &Service, configs: &[String], rows: u64) -> Result<()> {
    match (service.file(), service.cluster()) {
        (Some(file), _) => in_file(file, configs, rows),
        (None, Some((servers, databases))) => in_cluster(servers, databases, configs, rows),
        (None, None) => Ok(()),
    }
}

fn in_file(file: &Path, configs: &[String], rows: u64) -> Result<()> {
    let writer = Connection::open(file)?;
    // What is lost by a crash of this machine is a benchmark.
    writer.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")?;
    // Computed columns are not among these.
    let mut columns = writer.prepare("SELECT name FROM pragma_table_info('history')")?;
    let columns = columns.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let (count, ids) = writer.query_row("SELECT COUNT(*), MIN(id) FROM history", [], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?))
    })?;
    let count = u64::from(count);
    ensure!(count == configs.len() as u64, "{count} tasks of {} configs have ended", configs.len());
    let copies = rows / count;
    let away = format!("(n.x * {count} + t.place)");
    let values = values(&columns, ids, &away, "'order-' || lower(hex(randomblob(8)))", "");
    writer.execute_batch(&format!(
        "BEGIN;
         INSERT INTO history ({columns})
         WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {copies})
         SELECT {values} FROM n JOIN (SELECT *, row_number() OVER (ORDER BY config_id) - 1 AS place FROM history) t;
         UPDATE balance SET accepted = accepted + {added}, ended = ended + {added};
         COMMIT;
         PRAGMA wal_checkpoint(TRUNCATE)",
        columns = columns.join(", "),
        added = copies * count,
    ))?;
    Ok(())
}

fn in_cluster(servers: &Servers, databases: &Databases, configs: &[String], rows: u64) -> Result<()> {
    let copies = rows / configs.len() as u64;
    for (place, config) in configs.iter().enumerate() {
        let meta = &databases.meta;
        let said = servers.sql(&format!("SELECT id FROM {meta}.config WHERE name = '{config}'"))?;
        let id: i64 = said.trim().parse().with_context(|| format!("the config `{config}`: `{said}`"))?;
        let shard = config_shard(ConfigId::new(id), SHARDS).get();
        let (table, balance) = (databases.table("history", shard), databases.table("balance", shard));
        let columns = servers.sql(&format!(
            "SELECT column_name FROM information_schema.columns \
             WHERE CONCAT(table_schema, '.', table_name) = '{table}' ORDER BY ordinal_position"
        ))?;
        let columns: Vec<_> = columns.lines().map(str::to_owned).collect();
        let first = servers.sql(&format!("SELECT MIN(id) FROM {table} WHERE config_id = {id}"))?;
        let first =
            first.trim().parse().with_context(|| format!("no task of `{config}` has ended: `{first}`"))?;
        let away = format!("(n.seq * {} + {place})", configs.len());
        let key = format!("CONCAT('order-', LEFT(MD5(CONCAT({id}, '-', n.seq)), 16))");
        let hash = format!("UNHEX(LEFT(SHA2({key}, 256), 32))");
        let values = values(&columns, first, &away, &key, &hash);
        let columns = columns.join(", ");
        servers.sql(&format!(
            "USE {meta}; SET unique_checks = 0;
             INSERT INTO {table} ({columns}) SELECT {values} FROM seq_1_to_{copies} n
             JOIN (SELECT * FROM {table} WHERE config_id = {id} LIMIT 1) t;
             INSERT INTO {balance} (node, accepted, ended, dropped) VALUES (0, {copies}, {copies}, 0)
             ON DUPLICATE KEY UPDATE accepted = accepted + {copies}, ended = ended + {copies}"
        ))?;
    }
    Ok(())
}

/// What a copy of the row `t` has in these columns when it is `away` ms older than the task `newest`.
fn values(columns: &[String], newest: i64, away: &str, key: &str, hash: &str) -> String {
    let below = (1_i64 << BELOW_TIME) - 1;
    let value = |column: &String| match column.as_str() {
        "id" => format!("(({} - {away}) << {BELOW_TIME}) | (t.id & {below})", newest >> BELOW_TIME),
        "key" | "task_key" => key.to_owned(),
        "key_hash" => hash.to_owned(),
        time if time.ends_with("_at") => format!("t.{time} - {away}"),
        same => format!("t.{same}"),
    };
    columns.iter().map(value).collect::<Vec<_>>().join(", ")
}
