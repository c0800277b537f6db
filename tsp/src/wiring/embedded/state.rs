//! What the embedded mode has beside the common parts.

use std::sync::Arc;

use tsp_queue::Inbox;
use tsp_queue::memory::MemoryQueue;
use tsp_store::fetching::Owner;
use tsp_store_sqlite::{ServeLock, SqliteStore};

pub(in crate::wiring) struct Embedded {
    pub(in crate::wiring) store: Arc<SqliteStore>,
    pub(in crate::wiring) owner: Owner,
    pub(in crate::wiring) inbox: Arc<Inbox>,
    pub(in crate::wiring) queue: Arc<MemoryQueue>,
    /// Held as long as the process serves.
    pub(super) lock: Option<ServeLock>,
}

impl Embedded {
    /// The last thing that happens to the store.
    pub(in crate::wiring) async fn close(&self) {
        self.store.close().await;
        if let (Some(lock), false) = (&self.lock, self.store.has_failed()) {
            lock.end();
        }
    }
}
