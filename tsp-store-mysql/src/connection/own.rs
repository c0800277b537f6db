//! This process as its writes see it: its node, its config cache, and how long it may decide by that.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tsp_core::{ConfigId, Millis};
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::{Cause, Result};

/// A session that is idle within an open transaction is ended after this (`idle_transaction_timeout`).
/// So whoever had more than this left of its lease when it was ready to commit has committed within it, or
/// never will.
const IDLE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct OwnNode {
    /// 0 before it has joined.
    pub(crate) node: AtomicI64,
    pub(crate) config_cache: Arc<ConfigCache>,
    /// Until when it may commit what it decided by its config cache. `None`: it is no node, and nobody goes
    /// by what it has applied.
    until: Mutex<Option<Instant>>,
}

impl OwnNode {
    /// A renewal that was sent then is answered.
    pub(crate) fn renewed(&self, sent: Instant, lease: Millis) {
        let lease = lease.to_std();
        let until = sent + lease.saturating_sub(IDLE_MAX.min(lease / 2));
        let mut held = self.until.lock();
        *held = Some(held.map_or(until, |held| held.max(until)));
    }

    /// Nobody waits for this node any more.
    pub(crate) fn ended(&self) {
        *self.until.lock() = Some(Instant::now());
    }

    /// # Errors
    /// [`tsp_store::StoreError::Unavailable`] when others may have declared this node dead, and so do not wait for what
    /// it has decided.
    pub(crate) fn may_commit(&self) -> Result<()> {
        match *self.until.lock() {
            Some(until) if until <= Instant::now() => {
                Err(Cause::LeaseOver.because("the node's lease is over"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a config still is of this version; `None`: is not there.
    pub(crate) fn still(&self, (config, version): (ConfigId, Option<i64>)) -> bool {
        self.config_cache.config(config).map(|config| config.version) == version
    }
}
