//! The due scan of an embedded store.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::EmbeddedOwnership as _;
use tsp_store_sqlite::{SqliteOptions, SqliteStore};

use super::{CONFIGS, Filled, MONTH_MS, Sizes, due, first_round, measure};
use crate::fill::{ensure_room, sqlite};
use crate::load::NOBODY;
use crate::measure::{instant, wall_us};
use crate::report::Report;
use crate::service::{APP, DeploymentMode, Service};
use crate::tasks::{Keys, Load};

/// What a row takes of a disk while the indexes are made, at most.
const BYTES: u64 = 280;
const BYTES_BARE: u64 = 150;

pub(super) async fn run(report: &mut Report, sizes: Sizes<'_>) -> Result<()> {
    ensure_room(sizes.rows.iter().sum(), if sizes.bare { BYTES_BARE } else { BYTES })?;
    let (mut services, mut stores, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    for rows in sizes.rows {
        let (service, first_round, configs) = filled(report, *rows, sizes.bare).await?;
        let now = Timestamp::from_ms(wall_us() / 1_000);
        let store = SqliteStore::open(&SqliteOptions::file(service.file().context("a file")?), now)?;
        let owner = store.take_shards(store.register_node("bench", now).await?, now).await?;
        tables.push(Filled {
            name: name(*rows),
            rows: *rows,
            store: Arc::<SqliteStore>::clone(&store),
            owner,
            configs,
            first_round,
        });
        stores.push(store);
        services.push(service);
    }
    measure(report, &tables, None, sizes.extrapolate).await?;
    drop(tables);
    for store in stores {
        store.close().await;
    }
    for service in services {
        service.stop().await?;
    }
    Ok(())
}

fn name(rows: u64) -> String {
    format!("scan, {rows} rows")
}

/// A service that has stopped, its first round, and its configs.
async fn filled(report: &mut Report, rows: u64, bare: bool) -> Result<(Service, i64, Vec<ConfigId>)> {
    let (name, first_round) = (name(rows), first_round());
    let mut service = Service::start(&DeploymentMode::Embedded).await?;
    let config = |number: usize| format!("open-{number}");
    let count = usize::try_from(CONFIGS)?;
    for number in 0..count {
        service.config(&config(number), NOBODY, json!({})).await?;
    }
    // What is copied is due after all copies.
    let last = first_round + 2 * MONTH_MS;
    let load = Load { app: APP, tasks: count, config: &config, due: &|_| last, keys: Keys::Random };
    load.submit(&service, 1).await?;
    service.halt().await?;
    let file = service.file().context("a file")?;
    let due = |number: &str, place: &str| due(number, place, "/", first_round);
    let open_tasks = sqlite::OpenTasks { copies: Sizes::copies(rows), due: &due, bare };
    let start = instant();
    let configs = sqlite::add_open(file, open_tasks)?;
    report.add(&name, "filled in", "s", start.elapsed().as_secs_f64());
    let bytes = std::fs::metadata(file)?.len() / (Sizes::copies(rows) * CONFIGS);
    report.add(&name, "bytes a row", "", f64::from(u32::try_from(bytes)?));
    // It opens and serves what it was given.
    service.boot().await?;
    report.add(&name, "start-up", "s", service.started_in.as_secs_f64());
    report.add(&name, "memory after start", "MiB", service.memory_mib("VmRSS")?);
    service.halt().await?;
    Ok((service, first_round, configs.into_iter().map(ConfigId::new).collect()))
}
