//! Drops what is kept long enough.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tsp_core::{Clock, Timestamp};
use tsp_store::{Result, RetentionStore};

/// Rows dropped in one call, so that nobody waits long behind it.
const ROWS_PER_CALL: usize = 2_000;
const EVERY: std::time::Duration = std::time::Duration::from_mins(1);

#[derive(Clone)]
pub struct RetentionLoop {
    store: Arc<dyn RetentionStore>,
}

impl std::fmt::Debug for RetentionLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RetentionLoop")
    }
}

impl RetentionLoop {
    pub fn new(store: Arc<dyn RetentionStore>) -> Self {
        Self { store }
    }

    /// Drops one portion; returns how many rows. 0: nothing is left to drop.
    pub async fn step(&self, now: Timestamp) -> Result<usize> {
        self.store.apply_retention(ROWS_PER_CALL, now).await
    }

    /// Once a minute, portion by portion.
    pub async fn run(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        loop {
            match self.step(clock.now()).await {
                Ok(0) => {}
                Ok(_) => {
                    tokio::task::yield_now().await;
                    if !stop.is_cancelled() {
                        continue;
                    }
                }
                Err(error) => tracing::warn!(%error, "could not drop old rows, will try again"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}
