//! What the open connections are at, so that the one that does least makes room when there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Accepted, and what has come with it was not read yet.
    New,
    /// The client is to act: it sends nothing, or part of a head, or does not take its answer.
    Idle,
    /// A request is being answered.
    Working,
    /// A request is being answered that waits for more of its body.
    Receiving,
    /// It was chosen to make room.
    Closing,
}

/// One open connection. Its task reports here, the accept loop looks.
#[derive(Debug)]
pub(super) struct Connection {
    phase: AtomicU8,
    /// When a byte last went in or out, in microseconds since the table was made.
    moved_at: AtomicU64,
    start: Instant,
    /// A body was left unread: what still comes of it is to be read over, or the answer is lost on the client.
    unread: AtomicBool,
    pub(super) closed_for_room: Notify,
}

impl Connection {
    fn new(start: Instant) -> Self {
        let moved_at = AtomicU64::new(since(start));
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            moved_at,
            start,
            unread: AtomicBool::new(false),
            closed_for_room: Notify::new(),
        }
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn go(&self, from: &[Phase], to: Phase) {
        let change = |phase: u8| from.iter().any(|from| *from as u8 == phase).then_some(to as u8);
        // What was chosen to make room stays so.
        let _ = self.phase.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// A byte went in or out.
    pub(super) fn moved(&self) {
        self.moved_at.store(since(self.start), Ordering::Relaxed);
    }

    /// There was nothing to read.
    pub(super) fn found_nothing(&self) {
        if self.is(Phase::New) {
            self.go(&[Phase::New], Phase::Idle);
        }
    }

    pub(super) fn asked(&self) {
        self.unread.store(false, Ordering::Relaxed);
        self.go(&[Phase::New, Phase::Idle, Phase::Receiving], Phase::Working);
    }

    pub(super) fn answered(&self) {
        // Its answer is on its way: nobody is less still.
        self.moved();
        self.go(&[Phase::Working, Phase::Receiving], Phase::Idle);
    }

    pub(super) fn waits_for_body(&self) {
        self.go(&[Phase::Working], Phase::Receiving);
    }

    pub(super) fn got_body(&self) {
        self.go(&[Phase::Receiving], Phase::Working);
    }

    pub(super) fn left_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether it is the client's turn and has been for at least `time`.
    pub(super) fn is_still(&self, time: Duration) -> bool {
        let quiet = since(self.start).saturating_sub(self.moved_at.load(Ordering::Relaxed));
        (self.is(Phase::Idle) || self.is(Phase::Receiving)) && u128::from(quiet) >= time.as_micros()
    }
}

fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// All open connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    start: Instant,
    open: Mutex<OpenConnections>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    by_number: HashMap<u64, Arc<Connection>>,
    /// Of these, so many are on their way out.
    closing: usize,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        metrics::describe_gauge!("tsp_http_connections", "open connections of the API");
        metrics::describe_counter!(
            "tsp_http_connections_closed_total",
            "connections of the API that were closed because others needed the room"
        );
        Arc::new(Self { start: Instant::now(), open: Mutex::default(), ended: Notify::new() })
    }

    /// A new one; it is gone when the guard is dropped.
    pub(super) fn add(self: &Arc<Self>) -> Guard {
        let connection = Arc::new(Connection::new(self.start));
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, connection.clone());
        drop(open);
        metrics::gauge!("tsp_http_connections").increment(1);
        Guard { all: self.clone(), number, connection }
    }

    /// Waits until there are fewer than `most`. Those at work are waited for; of the others the one that has
    /// been still for longest is closed.
    pub(super) async fn make_room(&self, most: usize) {
        /// A connection whose request has ended becomes one that can be closed without a word.
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        loop {
            let ended = self.ended.notified();
            {
                let mut open = self.open.lock();
                if open.by_number.len() < most {
                    return;
                }
                if open.by_number.len() - open.closing >= most {
                    open.close_stillest();
                }
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, ended).await;
        }
    }

    /// Closes the one that has been still for longest, if no request is being worked on.
    pub(super) fn close_stillest(&self) {
        self.open.lock().close_stillest();
    }
}

impl OpenConnections {
    fn close_stillest(&mut self) {
        let idle = self.by_number.iter().filter(|(_, one)| one.is(Phase::Idle) || one.is(Phase::Receiving));
        let stillest = idle.min_by_key(|(number, one)| (one.moved_at.load(Ordering::Relaxed), **number));
        let Some((_, chosen)) = stillest else { return };
        chosen.phase.store(Phase::Closing as u8, Ordering::Relaxed);
        chosen.closed_for_room.notify_one();
        self.closing += 1;
        metrics::counter!("tsp_http_connections_closed_total").increment(1);
    }
}

/// Keeps a connection in the table.
#[derive(Debug)]
pub(super) struct Guard {
    all: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut open = self.all.open.lock();
        open.by_number.remove(&self.number);
        if self.connection.is(Phase::Closing) {
            open.closing -= 1;
        }
        drop(open);
        metrics::gauge!("tsp_http_connections").decrement(1);
        self.all.ended.notify_one();
    }
}
