//! What a claim costs beside few and many open rows of the same shard: the product's own statements, on tables that
//! are filled by the server.
//!
//! The due scan must not notice what is not due: the rows it reads are the same whatever else is open.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use peers::{MariaDb, MariaDbOptions};
use tsp_core::{ConfigId, ManualClock, Name, NodeId, ShardId, Timestamp};
use tsp_store::FetcherStore as _;
use tsp_store::cluster::ShardGroup;
use tsp_store::fetching::{ClaimRequest, Owner};
use tsp_store_mysql::{MySqlFetcherStore, MySqlOptions, MySqlStore};

use crate::cluster::status;
use crate::measure::{instant, wall_us};
use crate::raw::Counter;
use crate::report::Report;
use crate::tasks::PAYLOAD;

const CONFIGS: u64 = 100;
/// Rounds that count; one before them makes connections and prepares statements.
const ROUNDS: u64 = 5;
const DUE: u64 = 500;
/// The due rows of a round are of so many configs; each round has others.
const DUE_CONFIGS: u64 = 5;
/// As many as the fetcher would ask for, and more than there are: the scan ends where nothing more is due.
const LIMIT: usize = 1_000;
const OWNER: Owner = Owner { node: NodeId::new(1), epoch: 1 };
/// Both tables fit: what is measured is the scan, and not the disk below it.
const BUFFER_POOL_MIB: u32 = 5_120;
/// Pages not yet written at which the server is quiet again.
const DIRTY_PAGES: f64 = 100.0;
const QUIET_LIMIT: std::time::Duration = std::time::Duration::from_mins(5);

/// A shard with open rows, none of them due.
struct Table {
    name: String,
    database: String,
    rows: u64,
    store: MySqlStore,
    fetcher_store: MySqlFetcherStore,
}

pub(crate) async fn run(report: &mut Report, sizes: &[u64]) -> Result<()> {
    ensure!(!sizes.is_empty(), "no number of rows was given");
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
    let mut tables = Vec::new();
    for rows in sizes {
        tables.push(Table::filled(report, &server, *rows).await?);
    }
    quiet(&server).await?;
    // By turns, so that all have the same machine.
    for round in 0..=ROUNDS {
        for table in &tables {
            let measured = table.claim(&server, round).await.with_context(|| table.name.clone())?;
            if round > 0 {
                report.add(&table.name, "time per claimed task", "us", measured.us);
                report.add(&table.name, "rows read per task", "", measured.rows);
            }
        }
    }
    for table in &tables {
        let start = instant();
        let earliest_due = table.fetcher_store.earliest_due().await?;
        report.add(&table.name, "heads of all configs", "ms", start.elapsed().as_secs_f64() * 1_000.0);
        ensure!(earliest_due.len() == usize::try_from(CONFIGS)?, "{} configs have heads", earliest_due.len());
    }
    let medians = |figure| -> Result<Vec<f64>> {
        tables.iter().map(|table| report.median(&table.name, figure).context("it was measured")).collect()
    };
    let (rows, times) = (medians("rows read per task")?, medians("time per claimed task")?);
    let fewest = rows.iter().copied().fold(f64::INFINITY, f64::min);
    report.add("scan", "rows read, most / fewest", "", rows.iter().copied().fold(0.0, f64::max) / fewest);
    report.add("scan", "time, largest / smallest", "", times[times.len() - 1] / times[0]);
    for table in tables {
        table.store.close().await;
    }
    server.stop();
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    us: f64,
    rows: f64,
}

impl Table {
    async fn filled(report: &mut Report, server: &MariaDb, rows: u64) -> Result<Self> {
        let name = format!("scan, {rows} rows");
        let [meta, database] = ["meta", "shard"].map(|name| server.create_database(name));
        let now = Timestamp::from_ms(wall_us() / 1_000);
        let (clock, entropy) = (Arc::new(ManualClock::at(now)), Arc::new(Counter::default()));
        let [meta, shards] = [server.url(&meta), server.url(&database)];
        let options = MySqlOptions::new(meta, shards, 1, [7; 32], clock, entropy);
        MySqlStore::migrate(&options, now).await?;
        let start = instant();
        // Without these two checks an empty table is filled index by index, each of them sorted first.
        let fill = insert(1, rows, "1 + seq % 100", &future_due());
        server.sql(&format!("USE {database}; SET unique_checks = 0, foreign_key_checks = 0; {fill}"))?;
        server.sql(&format!("ANALYZE TABLE {database}.task_000"))?;
        report.add(&name, "filled in", "s", start.elapsed().as_secs_f64());
        // The epoch under which the rows are claimed; nobody else is there to take it.
        let lease = wall_us() / 1_000 + 86_400_000;
        server.sql(&format!(
            "REPLACE INTO {database}.shard_lease (group_name, shard, owner, epoch, lease_until) \
             VALUES ('default', 0, {}, {}, {lease})",
            OWNER.node.get(),
            OWNER.epoch
        ))?;
        let store = MySqlStore::open(&options).await?;
        let shard_group =
            ShardGroup { group: Name::new("default")?, shard: ShardId::new(0).context("a shard")? };
        let fetcher_store = store.fetcher_store(shard_group);
        Ok(Self { name, database, rows, store, fetcher_store })
    }

    /// Makes 500 rows due and claims them. The rows read are those of the whole server but for what it takes to ask.
    async fn claim(&self, server: &MariaDb, round: u64) -> Result<Measured> {
        let first = self.rows + 1 + round * DUE;
        let config = format!("1 + ({} + seq % {DUE_CONFIGS}) % {CONFIGS}", round * DUE_CONFIGS);
        let now = wall_us() / 1_000;
        let due = insert(first, first + DUE - 1, &config, &format!("{now} - 1000 + seq % 1000"));
        server.sql(&format!("USE {}; {due}", self.database))?;
        let wants: Vec<_> = (0..DUE_CONFIGS)
            .map(|number| ClaimRequest {
                config: ConfigId::new(
                    i64::try_from(1 + (round * DUE_CONFIGS + number) % CONFIGS).unwrap_or(1),
                ),
                due_by: Timestamp::from_ms(now),
                limit: LIMIT,
            })
            .collect();
        let read = || status(server, "HANDLER\\_READ\\_%");
        let (asked, before) = (read()?, read()?);
        let start = instant();
        let claimed = self.fetcher_store.claim(OWNER, wants, Timestamp::from_ms(now)).await?;
        let took = start.elapsed();
        let rows = read()? - before - (before - asked);
        ensure!(!claimed.deposed, "the lease is not ours");
        ensure!(
            claimed.bare.len() == usize::try_from(DUE)?,
            "{} of {DUE} due rows were claimed",
            claimed.bare.len()
        );
        let tasks = f64::from(u32::try_from(DUE)?);
        Ok(Measured { us: took.as_secs_f64() * 1e6 / tasks, rows: rows / tasks })
    }
}

/// Times over the next month, scattered.
fn future_due() -> String {
    let tomorrow = wall_us() / 1_000 + 86_400_000;
    format!("{tomorrow} + seq * 1597334677 % 2592000000")
}

/// Scheduled rows with these ids, each with a key of its own and the payload of all scenarios.
fn insert(first: u64, last: u64, config: &str, due: &str) -> String {
    format!(
        "INSERT INTO task_000 (id, config_id, due_at, execute_at, first_due_at, created_at, origin, task_key, \
         key_hash, key_slot, payload) SELECT seq, {config}, {due}, {due}, {due}, 0, 0, CONCAT('order-', seq), \
         UNHEX(MD5(CONCAT('order-', seq))), 0, '{PAYLOAD}' FROM seq_{first}_to_{last};"
    )
}

/// Waits until the server has written what it was filled with: it would go on with that beside the claims.
async fn quiet(server: &MariaDb) -> Result<()> {
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")?;
    let start = instant();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
    while status(server, "INNODB\\_BUFFER\\_POOL\\_PAGES\\_DIRTY")? > DIRTY_PAGES {
        ensure!(start.elapsed() < QUIET_LIMIT, "the server still writes after {QUIET_LIMIT:?}");
        tick.tick().await;
    }
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 90")?;
    Ok(())
}
