//! What is kept how long, and how far the clearing away is.

use tsp_core::{Millis, Timestamp};

use super::core::Core;

/// Before any time that is looked at.
const EVER: Timestamp = Timestamp::from_ms(i64::MIN);

/// How far the clearing away is, so that it is not begun anew with every call.
#[derive(Debug)]
pub(super) struct Walk {
    /// When partitions are looked at again.
    pub(super) look_at: Timestamp,
    /// The last task whose old attempts were looked at.
    pub(super) after: i64,
    /// When old attempts are looked at again.
    pub(super) again_at: Timestamp,
}

impl Default for Walk {
    fn default() -> Self {
        Self { look_at: EVER, after: i64::MIN, again_at: EVER }
    }
}

/// How long the config that keeps its history longest does.
pub(super) fn longest_retention(core: &Core) -> Millis {
    core.book.all_configs().iter().map(|config| config.spec.retention).max().unwrap_or(Millis::ZERO)
}

/// Whether a day that ended then is past `retention`.
pub(super) fn is_past(end: Timestamp, retention: Millis, now: Timestamp) -> bool {
    end <= now.minus(retention)
}
