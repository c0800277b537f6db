//! What is kept how long, and how far retention is.

use tsp_core::{Millis, Timestamp};

use crate::context::StoreContext;

/// Before any time that is looked at.
const BEGINNING_OF_TIME: Timestamp = Timestamp::from_ms(i64::MIN);

/// How far retention is, so that it is not begun again with every call.
#[derive(Debug)]
pub(crate) struct RetentionScan {
    /// When partitions are looked at again.
    pub(crate) look_at: Timestamp,
    /// The last task whose old attempts were looked at.
    pub(crate) after: i64,
    /// When old attempts are looked at again.
    pub(crate) again_at: Timestamp,
}

impl Default for RetentionScan {
    fn default() -> Self {
        Self { look_at: BEGINNING_OF_TIME, after: i64::MIN, again_at: BEGINNING_OF_TIME }
    }
}

/// How long the config that keeps its history longest does.
pub(crate) fn longest_retention(context: &StoreContext) -> Millis {
    context
        .config_cache
        .all_configs()
        .iter()
        .map(|config| config.spec.retention)
        .max()
        .unwrap_or(Millis::ZERO)
}

/// Whether a day that ended then is past `retention`.
pub(crate) fn is_past(end: Timestamp, retention: Millis, now: Timestamp) -> bool {
    end <= now.minus(retention)
}
