//! What the connections and the owner of a consumer tell its manager.

use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) enum Event {
    /// A connection has come, or a limit has changed.
    Changed,
    /// A connection has gone.
    Lost,
    /// The supervisor of an nsqd that is no longer listed has ended.
    Left(String),
    /// A message is done, and that was asked for.
    Freed,
    BackOff,
    Succeeded,
    Close {
        drained_by: Instant,
        done: oneshot::Sender<()>,
    },
}
