//! Being told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::failure::{Failure, Result};

/// SIGTERM and SIGINT. The first one stops gracefully, the second at once.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// As shells report a process that was interrupted.
const EXIT_AT_ONCE: i32 = 130;

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the first signal, which is `None`, or for the server to end by itself.
    pub(super) async fn first_or<T>(&mut self, ended: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.next() => None,
            end = ended => Some(end),
        }
    }

    /// From here on a signal ends the process with whatever is still running; the next start picks it up.
    pub(super) fn exit_on_the_next(mut self) -> AbortHandle {
        TaskTracker::new()
            .spawn(async move {
                self.next().await;
                tracing::warn!("a second signal: ending at once");
                std::process::exit(EXIT_AT_ONCE);
            })
            .abort_handle()
    }
}
