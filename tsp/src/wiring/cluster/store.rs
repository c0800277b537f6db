//! The databases of a cluster: opened from settings.

use std::fmt::Write as _;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tsp_core::Millis;
use tsp_store_mysql::{MySqlOptions, MySqlStore, SourceOptions};

use crate::failure::{Failure, Result};
use crate::settings::{SecretKey, Settings, StoreLocation};
use crate::wiring::clock::{machine, millis};
use crate::wiring::entropy::OsEntropy;
use crate::wiring::store_failure;

pub(in crate::wiring) async fn open_store(settings: &Settings) -> Result<MySqlStore> {
    MySqlStore::open(&options(settings)?).await.map_err(|error| {
        store_failure(&error).advise("`tsp migrate` makes the tables; `tsp doctor` looks closer")
    })
}

/// Makes the tables, or brings them up to this binary's; says what was done.
pub(crate) async fn migrate(settings: &Settings) -> Result<String> {
    let options = options(settings)?;
    let now = MySqlStore::time(&options).await.map_err(|error| store_failure(&error))?;
    let report = MySqlStore::migrate(&options, now).await.map_err(|error| store_failure(&error))?;
    let mut text = String::new();
    for migration in report.applied {
        let _ = writeln!(text, "applied {migration}");
    }
    if !report.assigned.is_empty() {
        let _ = writeln!(text, "placed {} shards", report.assigned.len());
    }
    text.push_str("the cluster's databases are up to date\n");
    Ok(text)
}

pub(crate) fn options(settings: &Settings) -> Result<MySqlOptions> {
    let StoreLocation::Cluster(cluster) = &settings.store.location else {
        return Err(Failure::usage("`store.meta.url` is not set"));
    };
    let secret_key = settings.store.secret_key.as_ref().map(SecretKey::bytes);
    let sources = cluster.sources.iter().map(|source| SourceOptions {
        name: source.name.clone(),
        url: source.url.expose_secret().to_owned(),
        shards: source.shards.clone(),
    });
    Ok(MySqlOptions {
        meta: cluster.meta.expose_secret().to_owned(),
        sources: sources.collect(),
        shards: settings.store.shards,
        secret_key: secret_key.ok_or_else(|| Failure::usage("`store.secret_key` is not set"))?,
        connections: cluster.connections,
        processes: cluster.processes,
        max_skew: millis(settings.node.max_skew),
        allow_unsynced: cluster.allow_unsynced,
        acquire_timeout: Millis::from_secs(5),
        clock: Arc::new(machine()),
        entropy: Arc::new(OsEntropy),
    })
}
