//! The idempotency keys that are being worked on in this process.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// By their hashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashSet<[u8; 32]>>>);

impl InFlight {
    /// False if it is being worked on already.
    pub(crate) fn insert(&self, hash: [u8; 32]) -> bool {
        self.0.lock().insert(hash)
    }

    pub(crate) fn remove(&self, hash: &[u8; 32]) {
        self.0.lock().remove(hash);
    }
}
