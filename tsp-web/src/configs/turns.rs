//! Changes of one config take turns in this process, so that each is worked out upon the one before it and
//! none is worked out in vain.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tsp_core::AppId;

/// Beyond this many, those that nobody waits for are forgotten.
const KEPT_MAX: usize = 1_000;

/// By app and the config's name.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<(AppId, String), Turn>>);

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Turns {
    /// Waits for those who came before.
    pub(super) async fn take(&self, app: AppId, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            if turns.len() >= KEPT_MAX {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry((app, name.to_owned())).or_default().clone()
        };
        turn.lock_owned().await
    }
}
