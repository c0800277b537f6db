//! Configs whose rows are held back on purpose: the auditor's stated reason.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tsp_core::{ConfigId, Timestamp};

/// Held for want of room, or because the receiver asked to wait; and until when it was. A busy config is
/// held and let go many times a second, so what was held a moment ago explains a row as well.
#[derive(Debug, Clone, Default)]
pub struct HeldConfigs {
    until: Arc<RwLock<HashMap<ConfigId, Timestamp>>>,
}

impl HeldConfigs {
    pub(crate) fn hold(&self, config: ConfigId) {
        self.until.write().insert(config, Timestamp::MAX);
    }

    pub(crate) fn let_go(&self, config: ConfigId, now: Timestamp) {
        self.until.write().insert(config, now);
    }

    /// Forgets what was let go before `since`.
    pub(crate) fn forget(&self, since: Timestamp) {
        self.until.write().retain(|_, until| *until >= since);
    }

    /// Whether it was held at any time since then.
    pub fn was_held(&self, config: ConfigId, since: Timestamp) -> bool {
        self.until.read().get(&config).is_some_and(|until| *until >= since)
    }
}
