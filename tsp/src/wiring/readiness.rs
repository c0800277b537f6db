//! The ports that the API is handed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tsp_core::{ConfigId, ShardId, Timestamp};
use tsp_queue::Inbox;
use tsp_web::{Readiness, WakeHints};

/// Hints go straight into the fetcher's inbox.
#[derive(Debug)]
pub(super) struct InboxHints(pub(super) Arc<Inbox>);

impl WakeHints for InboxHints {
    fn wake(&self, config: ConfigId, _shard: ShardId, due_at: Timestamp) {
        self.0.due(config, due_at);
    }

    fn config_changed(&self, config: ConfigId) {
        self.0.changed(config);
    }

    fn unparked(&self, config: ConfigId, at: Timestamp) {
        self.0.unparked(config, at);
    }
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// Where this process stands.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    pub(super) fn set_ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    pub(super) fn set_stopping(&self) {
        self.0.store(STOPPING, Ordering::Release);
    }
}

impl Readiness for Phase {
    fn missing(&self) -> Vec<String> {
        match self.0.load(Ordering::Acquire) {
            STARTING => vec!["the server is starting".to_owned()],
            STOPPING => vec!["the server is stopping".to_owned()],
            _ => Vec::new(),
        }
    }
}
