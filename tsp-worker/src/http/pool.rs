//! Idle connections by origin, and the bound on all connections of a client, idle and in use.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tsp_core::ids::IdMap;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::connector::Origin;

/// The most idle connections to one origin.
const IDLE_MAX: usize = 256;
/// The most connections to one origin that are being opened at once. A burst that opens hundreds at once
/// overflows the accept queue of a common server (128), and a SYN that is dropped is sent again after 1 s.
const OPENING_MAX: usize = 64;

/// The connections to one origin.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) origin: Origin,
    number: u64,
    /// A permit for each connection that may be opened now.
    pub(super) opening: Semaphore,
    all: Arc<Pools>,
}

/// Those to all origins.
#[derive(Debug)]
pub(super) struct Pools {
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    connections_max: usize,
    /// So many calls wait for one.
    waiting: AtomicUsize,
    idle: Mutex<IdleConnections>,
}

#[derive(Debug, Default)]
struct IdleConnections {
    next_pool: u64,
    next_rest: u64,
    /// Oldest first. The newest is used first, so that a pool that is too large shrinks.
    by_pool: IdMap<u64, VecDeque<IdleConnection>>,
    /// The pools by what rests in them, the one that has rested longest first.
    by_age: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct IdleConnection {
    /// Rises with every rest.
    rest: u64,
    connection: Connection,
}

impl Pools {
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            room: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
        })
    }

    pub(super) fn pool(self: &Arc<Self>, origin: Origin) -> Pool {
        let mut idle = self.idle.lock();
        let number = idle.next_pool;
        idle.next_pool += 1;
        Pool { origin, number, opening: Semaphore::new(OPENING_MAX), all: self.clone() }
    }

    /// Room for a new connection, made by closing the one that has been idle for longest; `None` when all are
    /// in use until then.
    pub(super) async fn room(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Some(room);
        }
        // Said before looking for an idle one: whoever puts one back after that sees it, and closes it.
        let _waits = Waits::new(&self.waiting);
        self.close_oldest(1);
        timeout_at(until, self.room.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Closes up to `count` of those that have been idle for longest; says whether there was one.
    pub(super) fn close_oldest(&self, count: usize) -> bool {
        let mut idle = self.idle.lock();
        let oldest: Vec<Connection> = std::iter::from_fn(|| idle.take_oldest()).take(count).collect();
        // Closing sockets is not done under the lock.
        drop(idle);
        !oldest.is_empty()
    }

    /// Closes what has been idle for too long.
    pub(super) fn close_idle(&self, now: Instant) {
        let mut expired = Vec::new();
        let mut idle = self.idle.lock();
        let IdleConnections { by_pool, by_age, .. } = &mut *idle;
        by_pool.retain(|_, resting| {
            for _ in 0..resting.len() {
                let Some(one) = resting.pop_front() else { break };
                if one.connection.expires_at <= now {
                    by_age.remove(&one.rest);
                    expired.push(one.connection);
                } else {
                    resting.push_back(one);
                }
            }
            !resting.is_empty()
        });
        drop(idle);
        drop(expired);
    }

    /// How many connections there are, and how many of them are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.connections_max - self.room.available_permits(), self.idle.lock().by_age.len())
    }
}

impl IdleConnections {
    fn put(&mut self, pool: u64, connection: Connection) {
        let resting = self.by_pool.entry(pool).or_default();
        if resting.len() < IDLE_MAX {
            let rest = self.next_rest;
            self.next_rest += 1;
            resting.push_back(IdleConnection { rest, connection });
            self.by_age.insert(rest, pool);
        }
    }

    fn take_newest(&mut self, pool: u64) -> Option<Connection> {
        let resting = self.by_pool.get_mut(&pool)?;
        let taken = resting.pop_back();
        if resting.is_empty() {
            self.by_pool.remove(&pool);
        }
        let IdleConnection { rest, connection } = taken?;
        self.by_age.remove(&rest);
        Some(connection)
    }

    /// The oldest of all is the oldest of its pool.
    fn take_oldest(&mut self) -> Option<Connection> {
        let (_, pool) = self.by_age.pop_first()?;
        let resting = self.by_pool.get_mut(&pool)?;
        let oldest = resting.pop_front();
        if resting.is_empty() {
            self.by_pool.remove(&pool);
        }
        oldest.map(|oldest| oldest.connection)
    }
}

/// Counts a call that waits for room.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// An idle connection that is still alive as far as can be known.
    pub(super) async fn take(&self) -> Option<Connection> {
        poll_fn(|cx| {
            loop {
                let Some(mut connection) = self.all.idle.lock().take_newest(self.number) else {
                    return Poll::Ready(None);
                };
                if connection.expires_at > Instant::now() && connection.poll_usable(cx) {
                    return Poll::Ready(Some(connection));
                }
            }
        })
        .await
    }

    /// Keeps a connection whose answer was read to its end for at most `limit`, if it can carry another
    /// request and nobody waits for its room.
    pub(super) async fn put(&self, mut connection: Connection, limit: Duration) {
        if limit.is_zero() || !poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
            return;
        }
        connection.rest(limit);
        let mut idle = self.all.idle.lock();
        if self.all.waiting.load(Ordering::SeqCst) == 0 {
            idle.put(self.number, connection);
        }
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.all.idle.lock().by_pool.get(&self.number).map_or(0, VecDeque::len)
    }
}

impl Drop for Pool {
    /// Nobody will ask for its idle connections again.
    fn drop(&mut self) {
        let mut idle = self.all.idle.lock();
        let gone = idle.by_pool.remove(&self.number);
        for resting in gone.iter().flatten() {
            idle.by_age.remove(&resting.rest);
        }
        drop(idle);
        drop(gone);
    }
}
