//! The due scan of a shard of a cluster.

use std::sync::Arc;

use anyhow::{Context, Result};
use peers::{MariaDb, MariaDbOptions};
use tsp_core::{ConfigId, ManualClock, Name, NodeId, ShardId, Timestamp};
use tsp_store::cluster::ShardGroup;
use tsp_store::fetching::Owner;
use tsp_store_mysql::{MySqlOptions, MySqlStore};

use super::{CONFIGS, Filled, Sizes, due, first_round, measure};
use crate::fill::ensure_room;
use crate::fill::mariadb::{quiet, sql_with_progress};
use crate::measure::{instant, wall_us};
use crate::raw::Counter;
use crate::report::Report;
use crate::tasks::PAYLOAD;

const OWNER: Owner = Owner { node: NodeId::new(1), epoch: 1 };
/// Tables of ten million rows fit: what is measured is the scan, and not the disk below it.
const BUFFER_POOL_MIB: u32 = 5_120;
/// What a row takes of a disk while the indexes are made, at most.
const BYTES: u64 = 800;

pub(super) async fn run(report: &mut Report, sizes: Sizes<'_>) -> Result<()> {
    ensure_room(sizes.rows.iter().sum(), BYTES)?;
    let options = MariaDbOptions {
        flush_log_at_commit: 1,
        buffer_pool_mib: BUFFER_POOL_MIB,
        more: vec![
            "--innodb-sort-buffer-size=64M".to_owned(),
            "--innodb-log-file-size=2G".to_owned(),
            "--innodb-io-capacity=10000".to_owned(),
        ],
    };
    let server = MariaDb::start_with(&options)?;
    let (mut stores, mut tables) = (Vec::new(), Vec::new());
    for rows in sizes.rows {
        let (store, table) = filled(report, &server, *rows, sizes.bare).await?;
        stores.push(store);
        tables.push(table);
    }
    quiet(&server).await?;
    measure(report, &tables, Some(&server), sizes.extrapolate).await?;
    for store in stores {
        store.close().await;
    }
    server.stop();
    Ok(())
}

async fn filled(
    report: &mut Report,
    server: &MariaDb,
    rows: u64,
    bare: bool,
) -> Result<(MySqlStore, Filled)> {
    let name = format!("scan, {rows} rows");
    let [meta, database] = ["meta", "shard"].map(|name| server.create_database(name));
    let now = Timestamp::from_ms(wall_us() / 1_000);
    let (clock, entropy) = (Arc::new(ManualClock::at(now)), Arc::new(Counter::default()));
    let [meta, shards] = [&meta, &database].map(|name| server.url(name));
    let options = MySqlOptions::new(meta, shards, 1, [7; 32], clock, entropy);
    MySqlStore::migrate(&options, now).await?;
    let first_round = first_round();
    let (start, all) = (instant(), Sizes::copies(rows) * CONFIGS);
    sql_with_progress(
        server,
        "rows of `task`",
        all,
        &format!("USE {database}; {}", insert(all, first_round, bare)),
    )?;
    server.sql(&format!("ANALYZE TABLE {database}.task_000"))?;
    report.add(&name, "filled in", "s", start.elapsed().as_secs_f64());
    let bytes = server.sql(&format!(
        "SELECT data_length + index_length FROM information_schema.tables \
         WHERE table_schema = '{database}' AND table_name = 'task_000'"
    ))?;
    let bytes = bytes.trim().parse::<u64>().with_context(|| format!("bytes: `{bytes}`"))? / all;
    report.add(&name, "bytes a row", "", f64::from(u32::try_from(bytes)?));
    // The epoch under which the rows are claimed; nobody else is there to take it.
    let lease = wall_us() / 1_000 + 86_400_000;
    server.sql(&format!(
        "REPLACE INTO {database}.shard_lease (group_name, shard, owner, epoch, lease_until) \
         VALUES ('default', 0, {}, {}, {lease})",
        OWNER.node.get(),
        OWNER.epoch
    ))?;
    let store = MySqlStore::open(&options).await?;
    let shard_group = ShardGroup { group: Name::new("default")?, shard: ShardId::new(0).context("a shard")? };
    let configs = (1..=i64::try_from(CONFIGS)?).map(ConfigId::new).collect();
    let fetcher_store = Arc::new(store.fetcher_store(shard_group));
    Ok((store, Filled { name, rows, store: fetcher_store, owner: OWNER, configs, first_round }))
}

/// Scheduled rows of all configs in turn. Without these two checks an empty table is filled index by index, each of them
/// sorted first; that works for one statement alone.
fn insert(rows: u64, first_round: i64, bare: bool) -> String {
    let (number, place) = (format!("(1 + seq DIV {CONFIGS})"), format!("(seq % {CONFIGS})"));
    let due = due(&number, &place, "DIV", first_round);
    let own = if bare {
        "NULL, NULL, 0, NULL".to_owned()
    } else {
        format!("CONCAT('order-', seq), UNHEX(MD5(CONCAT('order-', seq))), 0, '{PAYLOAD}'")
    };
    format!(
        "SET unique_checks = 0, foreign_key_checks = 0; \
         INSERT INTO task_000 (id, config_id, due_at, execute_at, first_due_at, created_at, origin, task_key, key_hash, \
         key_slot, payload) SELECT 1 + seq, 1 + seq % {CONFIGS}, {due}, {due}, {due}, 0, 0, {own} \
         FROM seq_0_to_{}",
        rows - 1
    )
}

#[cfg(test)]
mod tests {
    use super::super::{ROUNDS, TURN};
    use super::*;
    use crate::report;

    /// Rows of the first round and of the last, with and without what they carry.
    #[tokio::test]
    async fn each_round_has_its_rows() {
        let options = MariaDbOptions { flush_log_at_commit: 1, ..MariaDbOptions::default() };
        let server = MariaDb::start_with(&options).unwrap();
        let mut report = Report::new(report::CLUSTER);
        for bare in [false, true] {
            let (store, table) = filled(&mut report, &server, 1_000, bare).await.unwrap();
            assert_eq!(table.store.earliest_due().await.unwrap().len(), table.configs.len());
            // Of the last one's configs also those before, or their rows would come with it.
            let last = (1..=ROUNDS / TURN + 1).map(|turn| turn * TURN - 1);
            for round in [0, 1, TURN].into_iter().chain(last) {
                table.claim(round).await.unwrap();
            }
            store.close().await;
        }
        server.stop();
    }
}
