//! What commands do with a cluster's back ends themselves, beside its processes or without them.

use tsp_core::Timestamp;
pub(crate) use tsp_queue::nsq::{NsqdView, diagnose_lookupd, diagnose_nsqd};
pub(crate) use tsp_store_mysql::{
    ClusterView, DatabaseFacts, DatabaseView, ImportProgress, ImportReport, NodeFacts, Problem, ProblemKind,
};
use tsp_store_mysql::{MoveStep, MySqlOptions, MySqlStore, ShardSource};

pub(crate) use super::store::options;
use crate::failure::Result;
use crate::settings::Settings;
use crate::wiring::offline::{block_on, embedded, on_store, serve_lock};
use crate::wiring::store_failure;

/// See [`MySqlStore::import_embedded`].
pub(crate) fn import_embedded(
    from: &Settings,
    to: &Settings,
    now: Timestamp,
    mut on_page: impl FnMut(ImportProgress) + Send,
) -> Result<ImportReport> {
    let options = options(to)?;
    let _lock = serve_lock(embedded(from)?).map_err(|error| store_failure(&error))?;
    on_store(from, now, async |store| {
        let mut on_page = |progress| {
            on_page(progress);
            true
        };
        let done = MySqlStore::import_embedded(&options, store, now, &mut on_page).await;
        done.map_err(|error| store_failure(&error))
    })
}

/// See [`MySqlStore::inspect`].
pub(crate) async fn inspect(options: &MySqlOptions) -> ClusterView {
    MySqlStore::inspect(options).await
}

/// See [`MySqlStore::shard_sources`].
pub(crate) fn shard_sources(settings: &Settings) -> Result<Vec<ShardSource>> {
    let options = options(settings)?;
    block_on(async { MySqlStore::shard_sources(&options).await.map_err(|error| store_failure(&error)) })
}

/// Moves a shard to the data source of this name, or undoes a move that was broken off.
pub(crate) fn move_shard(
    settings: &Settings,
    shard: u16,
    to: Option<&str>,
    mut on_step: impl FnMut(MoveStep) + Send,
) -> Result {
    let options = options(settings)?;
    let mut on_step = |step| {
        on_step(step);
        true
    };
    block_on(async {
        let done = match to {
            Some(to) => MySqlStore::move_shard(&options, shard, to, &mut on_step).await,
            None => MySqlStore::undo_move(&options, shard, &mut on_step).await,
        };
        done.map_err(|error| store_failure(&error))
    })
}
