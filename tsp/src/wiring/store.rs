//! The embedded store: opened from settings, and its errors as ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tsp_core::Timestamp;
use tsp_store::StoreError;
use tsp_store_sqlite::{DatabaseLocation, SqliteOptions, SqliteStore, Synchronous};

use crate::failure::{Failure, Result};
use crate::settings::{StoreLocation, StoreSettings};

pub(super) fn open(settings: &StoreSettings, now: Timestamp) -> Result<Arc<SqliteStore>> {
    try_open(settings, now, None).map_err(|error| store_failure(&error))
}

/// `check_within`: looks for damage first, for at most so long.
pub(super) fn try_open(
    settings: &StoreSettings,
    now: Timestamp,
    check_within: Option<Duration>,
) -> tsp_store::Result<Arc<SqliteStore>> {
    SqliteStore::open(&SqliteOptions { check_within, ..options(settings) }, now)
}

fn options(settings: &StoreSettings) -> SqliteOptions {
    SqliteOptions {
        location: match &settings.location {
            StoreLocation::File(path) => DatabaseLocation::File(path.clone()),
            // A cluster's databases are not opened here.
            StoreLocation::Memory | StoreLocation::Cluster(_) => DatabaseLocation::Memory,
        },
        synchronous: if settings.synchronous_full { Synchronous::Full } else { Synchronous::Normal },
        shards: settings.shards,
        readers: settings.readers,
        page_cache_mib: settings.page_cache_mib,
        secret_key: settings.secret_key.as_ref().map(crate::settings::SecretKey::bytes),
        ..SqliteOptions::memory()
    }
}

/// The store says itself what is to be done where it can.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::failed(error.to_string());
    match error {
        StoreError::Unavailable { .. } | StoreError::Unknown(_) => {
            failure.advise("try again; `tsp doctor` looks closer")
        }
        StoreError::Corrupt { .. } => {
            failure.advise("`tsp doctor` looks closer; restore a backup if it says so")
        }
        StoreError::Unusable(_) | StoreError::Internal(_) => failure,
    }
}

/// A file beside the database: `tsp.db.lock` for `lock`.
pub(crate) fn beside(database: &Path, extension: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
