//! What all roles of a process share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tsp_core::{Clock, Entropy, Name};
use tsp_queue::Inbox;
use tsp_queue::memory::MemoryQueue;
use tsp_store::id_source::RENEW_AHEAD;
use tsp_store::schedule::Owner;
use tsp_store::sqlite::{ServeLock, SqliteStore};
use tsp_store::{Catalog, IdSource, Ownership, StoreError};

use super::clock::ServerClock;
use super::entropy::OsEntropy;
use super::hints::Phase;
use super::reserve::Reserve;
use super::store;
use crate::failure::{Failure, Result};
use crate::settings::{Settings, StorePlace};

/// The one id slot of an embedded store: one process serves it.
const ID_SLOT: u8 = 0;
/// Messages in the pipe beyond those that run, so that no worker waits for the fetcher.
const PIPE_AHEAD: usize = 4_096;

pub(super) struct Parts {
    pub(super) store: Arc<SqliteStore>,
    pub(super) clock: ServerClock,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) ids: IdSource,
    pub(super) owner: Owner,
    pub(super) inbox: Arc<Inbox>,
    pub(super) queue: Arc<MemoryQueue>,
    pub(super) queue_name: Name,
    /// Callbacks sent since the start.
    pub(super) sent: Arc<AtomicU64>,
    pub(super) readiness: Arc<Phase>,
    /// Held as long as the process serves.
    _lock: Option<ServeLock>,
}

/// What the store gives to the process that serves it.
struct Started {
    store: Arc<SqliteStore>,
    owner: Owner,
    ids: IdSource,
}

impl Parts {
    pub(super) async fn open(settings: &Settings, clock: ServerClock) -> Result<Self> {
        let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
        let failed = |error: StoreError| store::store_failure(&error);
        let (lock, reserve) = match &settings.store.place {
            StorePlace::File(path) => {
                (Some(ServeLock::acquire(path).map_err(failed)?), Some(Reserve::of(path)))
            }
            StorePlace::Memory => (None, None),
        };
        let started = match start(settings, &clock).await {
            Err(error) if reserve.as_ref().is_some_and(|reserve| reserve.give_up(&error)) => {
                start(settings, &clock).await
            }
            Ok(started) => {
                if let Some(reserve) = &reserve {
                    reserve.keep(&*entropy);
                }
                Ok(started)
            }
            refused => refused,
        };
        let Started { store, owner, ids } = started.map_err(failed)?;
        let queue_name = Name::queue("default").map_err(|error| Failure::failed(error.to_string()))?;
        let capacity = settings.worker.concurrency.saturating_add(PIPE_AHEAD);
        Ok(Self {
            store,
            clock,
            entropy,
            ids,
            owner,
            inbox: Arc::new(Inbox::new()),
            queue: Arc::new(MemoryQueue::new([queue_name.clone()], capacity)),
            queue_name,
            sent: Arc::default(),
            readiness: Arc::new(Phase::default()),
            _lock: lock,
        })
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.get()
    }
}

async fn start(settings: &Settings, clock: &ServerClock) -> tsp_store::Result<Started> {
    let store = store::try_open(&settings.store, clock.get().now())?;
    if let ServerClock::Virtual(clock) = clock {
        // Kept data may be from days ahead, and time never goes back: ids tell how far it was.
        let used_until = store.renew_id_slot(ID_SLOT, clock.now()).await?;
        clock.advance_to(used_until.minus(RENEW_AHEAD));
    }
    let now = clock.get().now();
    let node = store.register_node(&node_name(settings), now).await?;
    let owner = store.take_shards(node, now).await?;
    let ids = IdSource::lease(&*store, ID_SLOT, now).await?;
    Ok(Started { store, owner, ids })
}

/// For people only, so anything will do where the machine does not tell its name.
fn node_name(settings: &Settings) -> String {
    let given = settings.node.name.trim();
    if !given.is_empty() {
        return given.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "tsp".to_owned() } else { host.trim().to_owned() }
}
