//! Opening the store, and what goes with it.

use std::sync::Arc;
use std::time::Duration;

use tsp_core::{Clock as _, Entropy, Name};
use tsp_queue::Inbox;
use tsp_queue::memory::MemoryQueue;
use tsp_store::cluster::NodeLease;
use tsp_store::fetching::Owner;
use tsp_store::id_source::RENEW_AHEAD;
use tsp_store::{EmbeddedOwnership as _, IdSlots as _, IdSource, StoreError};
use tsp_store_sqlite::{ServeLock, SqliteStore};

use super::state::Embedded;
use crate::failure::Result;
use crate::settings::{Settings, StoreLocation};
use crate::wiring::clock::ServerClock;
use crate::wiring::dependencies::{DeploymentMode, PipelineParts, ProcessDependencies};
use crate::wiring::disk_reserve::DiskReserve;
use crate::wiring::entropy::OsEntropy;
use crate::wiring::node_name::node_name;
use crate::wiring::readiness::{InboxHints, Phase};
use crate::wiring::store;

/// The one id slot of an embedded store: one process serves it.
const ID_SLOT: u8 = 0;
/// Messages in the pipe beyond those that run, so that no worker waits for the fetcher.
const PIPE_AHEAD: usize = 4_096;

/// What the store gives to the process that serves it.
struct OpenStore {
    store: Arc<SqliteStore>,
    owner: Owner,
    ids: IdSource,
}

pub(in crate::wiring) async fn open(
    settings: &Settings,
    clock: ServerClock,
    queue_name: Name,
) -> Result<ProcessDependencies> {
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let failed = |error: StoreError| store::store_failure(&error);
    let (lock, disk_reserve) = match &settings.store.location {
        StoreLocation::File(path) => {
            (Some(ServeLock::acquire(path).map_err(failed)?), Some(DiskReserve::of(path)))
        }
        StoreLocation::Memory | StoreLocation::Cluster(_) => (None, None),
    };
    let unclean = lock.as_ref().is_some_and(|lock| !lock.found_clean());
    let check_within =
        (unclean && !settings.store.check_at_start.is_zero()).then_some(settings.store.check_at_start);
    if let Some(lock) = &lock {
        lock.begin().map_err(failed)?;
    }
    let started = match start(settings, &clock, check_within).await {
        Err(error) if disk_reserve.as_ref().is_some_and(|disk_reserve| disk_reserve.give_up(&error)) => {
            start(settings, &clock, check_within).await
        }
        Ok(started) => {
            if let Some(disk_reserve) = &disk_reserve {
                disk_reserve.keep(&*entropy);
            }
            Ok(started)
        }
        refused => refused,
    };
    let OpenStore { store, owner, ids } = started.map_err(failed)?;
    let capacity = settings.worker.concurrency.saturating_add(PIPE_AHEAD);
    let inbox = Arc::new(Inbox::new());
    let queue = Arc::new(MemoryQueue::new([queue_name.clone()], capacity));
    let subscriber = queue.subscribe(&queue_name);
    let pipeline = |subscriber| PipelineParts { subscriber: Arc::new(subscriber), store: store.clone() };
    let pipelines = subscriber.into_iter().map(pipeline).collect();
    let embedded = Embedded { store: store.clone(), owner, inbox: inbox.clone(), queue, lock };
    Ok(ProcessDependencies {
        store: store.clone(),
        pipelines,
        clock,
        entropy,
        ids: Some(ids),
        id_slots: store,
        node: owner.node,
        lease: Arc::new(NodeLease::for_ever()),
        hints: Arc::new(InboxHints(inbox.clone())),
        feedback: inbox,
        queue_name,
        sent: Arc::default(),
        running: Arc::default(),
        readiness: Arc::new(Phase::default()),
        mode: DeploymentMode::Embedded(embedded),
    })
}

async fn start(
    settings: &Settings,
    clock: &ServerClock,
    check_within: Option<Duration>,
) -> tsp_store::Result<OpenStore> {
    let store = store::try_open(&settings.store, clock.get().now(), check_within)?;
    if let ServerClock::Virtual(clock) = clock {
        // Kept data may be from days ahead, and time never goes back: ids tell how far it was.
        let used_until = store.renew_id_slot(ID_SLOT, clock.now()).await?;
        clock.advance_to(used_until.minus(RENEW_AHEAD));
    }
    let now = clock.get().now();
    let node = store.register_node(&node_name(settings), now).await?;
    let owner = store.take_shards(node, now).await?;
    let ids = IdSource::lease(&*store, ID_SLOT, now).await?;
    Ok(OpenStore { store, owner, ids })
}
