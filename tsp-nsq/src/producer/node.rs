//! One nsqd of a producer: its connection is made when first wanted, and again whenever it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codec::{Command, ErrorReply, MessageFrame};
use crate::config::ClientConfig;
use crate::metric_names;
use crate::wire::link::{self, Cause, Events};
use crate::wire::outbox::{NoAnswer, Outbox};
use crate::wire::{handshake, identify::Negotiated};

/// What may be on its way to one nsqd without an answer, in units of [`UNIT_BYTES`].
const WINDOW_UNITS: u32 = 16 * 1024;
const UNIT_BYTES: usize = 1024;

#[derive(Clone)]
pub(super) enum State {
    /// Nobody has wanted it.
    Idle,
    Connecting,
    Ready(Arc<Outbox>),
    /// The last attempt failed, the next is not due.
    Waiting(Arc<str>),
    Closed,
}

pub(super) struct Node {
    pub(super) address: String,
    state: watch::Sender<State>,
    wanted: Notify,
    window: Arc<Semaphore>,
    /// No longer one of the producer's: it is not connected again.
    retired: AtomicBool,
}

impl Node {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            state: watch::Sender::new(State::Idle),
            wanted: Notify::new(),
            window: Arc::new(Semaphore::new(WINDOW_UNITS as usize)),
            retired: AtomicBool::new(false),
        }
    }

    /// The connection, if there is one. An nsqd that nobody has wanted is on its way after this.
    pub(super) fn ready(&self) -> Option<Arc<Outbox>> {
        match &*self.state.borrow() {
            State::Ready(outbox) if outbox.is_open() => Some(outbox.clone()),
            State::Idle => {
                self.wanted.notify_one();
                None
            }
            _ => None,
        }
    }

    /// The connection, waiting for an attempt that is under way but for no other.
    pub(super) async fn reach(&self) -> Result<Arc<Outbox>, Arc<str>> {
        self.wanted.notify_one();
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| match state {
            State::Idle | State::Connecting => false,
            State::Ready(outbox) => outbox.is_open(),
            State::Waiting(_) | State::Closed => true,
        });
        match decided.await.as_deref() {
            Ok(State::Ready(outbox)) => Ok(outbox.clone()),
            Ok(State::Waiting(why)) => Err(why.clone()),
            _ => Err("closed".into()),
        }
    }

    /// Sends `command` of about `bytes`, and waits for its answer.
    pub(super) async fn ask(&self, outbox: &Outbox, command: Command, bytes: usize) -> Result<(), NoAnswer> {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).saturating_add(1).min(WINDOW_UNITS);
        let Ok(room) = self.window.clone().acquire_many_owned(units).await else {
            return Err(NoAnswer::NotSent);
        };
        match outbox.ask(command, Some(room)).await?.as_ref() {
            b"OK" => Ok(()),
            other => Err(NoAnswer::Lost(format!("the answer is `{}`", other.escape_ascii()))),
        }
    }

    /// Lets the connection finish what it has, and makes no other.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.wanted.notify_one();
        if let State::Ready(outbox) = &*self.state.borrow() {
            outbox.shut();
        }
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// Keeps one node connected until it is retired or `stop`.
pub(super) async fn keep(
    node: Arc<Node>,
    config: Arc<ClientConfig>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let _ = stop.run_until_cancelled(node.wanted.notified()).await;
    let mut failures = 0_u32;
    while !(stop.is_cancelled() || node.is_retired()) {
        node.state.send_replace(State::Connecting);
        let (cause, heard) = connection(&node, &config, &tasks, &stop).await;
        failures = if heard { 0 } else { failures.saturating_add(1) };
        if stop.is_cancelled() || node.is_retired() {
            break;
        }
        metrics::counter!(metric_names::RECONNECTS, "cause" => cause.label()).increment(1);
        let wait = config.reconnect.delay(failures, (config.jitter)());
        tracing::warn!(nsqd = %node.address, %cause, ?wait, "connection of a producer lost");
        if !wait.is_zero() {
            node.state.send_replace(State::Waiting(cause.to_string().into()));
            // Retiring does not cut the wait short, but nothing is done after it.
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }
    node.state.send_replace(State::Closed);
}

/// One connection from its making to its end.
async fn connection(
    node: &Node,
    config: &ClientConfig,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (Cause, bool) {
    let connecting = handshake::connect(&node.address, config, None);
    let connected = match stop.run_until_cancelled(connecting).await {
        Some(Ok(connected)) => connected,
        Some(Err(cause)) => return (cause, false),
        None => return (Cause::Closed, false),
    };
    let Negotiated { version, .. } = &connected.negotiated;
    tracing::debug!(nsqd = %node.address, version, "producer connected");
    let (outbox, orders) = Outbox::new();
    let outbox = Arc::new(outbox);
    node.state.send_replace(State::Ready(outbox.clone()));
    if node.is_retired() {
        outbox.shut();
    }
    let open = metrics::gauge!(metric_names::CONNECTIONS, "kind" => "producer");
    open.increment(1.0);
    let run = link::run(connected, (&outbox, orders), config, tasks, stop, &mut NoMessages).await;
    open.decrement(1.0);
    (run.cause, run.heard)
}

/// A connection that does not subscribe gets no messages.
struct NoMessages;

impl Events for NoMessages {
    fn message(&mut self, _: MessageFrame, _: Instant) {}
    fn settle_error(&mut self, _: &ErrorReply) {}
    fn batch_end(&mut self) {}
}
