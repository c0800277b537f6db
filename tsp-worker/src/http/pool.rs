//! Idle connections to one origin.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::Connection;
use super::connector::Origin;

/// Below the keep-alive of common servers (15 to 30 s and more), so that we close first.
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// The most idle connections to one origin.
const IDLE_MAX: usize = 256;
/// The most connections to one origin that are being opened at once. A burst that opens hundreds at once
/// overflows the accept queue of a common server (128), and a SYN that is dropped comes again after 1 s.
const OPENING_MAX: usize = 64;

pub(super) struct Pool {
    pub(super) origin: Origin,
    /// Oldest first. The newest is used first, so that a pool that is too large shrinks.
    idle: Mutex<Vec<Connection>>,
    /// A permit for each connection that may be opened now.
    pub(super) opening: Semaphore,
}

impl Pool {
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, idle: Mutex::default(), opening: Semaphore::new(OPENING_MAX) }
    }

    /// An idle connection that is still alive as far as can be known.
    pub(super) async fn take(&self) -> Option<Connection> {
        poll_fn(|cx| {
            loop {
                let Some(mut connection) = self.idle.lock().pop() else { return Poll::Ready(None) };
                let expired = connection.idle_since.elapsed() >= IDLE_LIMIT;
                if !expired && connection.poll_usable(cx) {
                    connection.reused = true;
                    return Poll::Ready(Some(connection));
                }
            }
        })
        .await
    }

    /// Keeps a connection whose answer was read to its end, if it can carry another request.
    pub(super) async fn put(&self, mut connection: Connection) {
        if !poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn close_idle(&self, now: Instant) {
        let mut idle = self.idle.lock();
        let fresh =
            idle.partition_point(|connection| now.duration_since(connection.idle_since) >= IDLE_LIMIT);
        let expired: Vec<Connection> = idle.drain(..fresh).collect();
        drop(idle);
        // Closing sockets is not done under the lock.
        drop(expired);
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.idle.lock().len()
    }
}
