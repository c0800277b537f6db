//! One nsqd of a producer: its connection is made when first wanted, and again whenever it ends.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codec::{Command, ErrorReply, MessageFrame};
use crate::config::ClientConfig;
use crate::metric_names;
use crate::wire::link::{self, Cause, Events, Run};
use crate::wire::outbox::{NoAnswer, Outbox};
use crate::wire::{handshake, identify::NegotiatedOptions};

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
    retired: CancellationToken,
}

impl Node {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            state: watch::Sender::new(State::Idle),
            wanted: Notify::new(),
            window: Arc::new(Semaphore::new(WINDOW_UNITS as usize)),
            retired: CancellationToken::new(),
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
        self.retired.cancel();
        if let State::Ready(outbox) = &*self.state.borrow() {
            outbox.shut();
        }
    }
}

/// Keeps one node connected until it is retired or `stop`.
pub(super) async fn keep(
    node: Arc<Node>,
    config: Arc<ClientConfig>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let over = || stop.is_cancelled() || node.retired.is_cancelled();
    let mut failures = 0_u32;
    tokio::select! {
        () = stop.cancelled() => {}
        () = node.retired.cancelled() => {}
        () = node.wanted.notified() => {}
    }
    while !over() {
        node.state.send_replace(State::Connecting);
        let run = connection(&node, &config, &tasks, &stop).await;
        if over() {
            break;
        }
        // Who answers works, so a publish that is refused does not make the next one wait.
        let worked = run.answered || run.lasted >= config.reconnect.max;
        failures = if worked { 0 } else { failures.saturating_add(1) };
        let cause = run.cause;
        metrics::counter!(metric_names::RECONNECTS, "cause" => cause.label()).increment(1);
        let wait = config.reconnect.delay(failures, (config.jitter)());
        tracing::warn!(nsqd = %node.address, %cause, ?wait, "connection of a producer lost");
        if !wait.is_zero() {
            node.state.send_replace(State::Waiting(cause.to_string().into()));
            tokio::select! {
                () = stop.cancelled() => {}
                () = node.retired.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
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
) -> Run {
    let connected = tokio::select! {
        biased;
        () = stop.cancelled() => return Run::failed(Cause::Closed),
        () = node.retired.cancelled() => return Run::failed(Cause::Closed),
        connected = handshake::connect(&node.address, config, None) => match connected {
            Ok(connected) => connected,
            Err(cause) => return Run::failed(cause),
        },
    };
    let NegotiatedOptions { version, .. } = &connected.negotiated;
    tracing::debug!(nsqd = %node.address, version, "producer connected");
    let (outbox, orders) = Outbox::new();
    let outbox = Arc::new(outbox);
    node.state.send_replace(State::Ready(outbox.clone()));
    if node.retired.is_cancelled() {
        // Whoever retired it may have looked just before.
        outbox.shut();
    }
    let open = metrics::gauge!(metric_names::CONNECTIONS, "kind" => "producer");
    open.increment(1.0);
    let run = link::run(connected, (&outbox, orders), config, tasks, stop, &mut NoMessages).await;
    open.decrement(1.0);
    run
}

/// A connection that does not subscribe gets no messages.
struct NoMessages;

impl Events for NoMessages {
    fn message(&mut self, _: MessageFrame, _: Instant) {}
    fn acknowledge_error(&mut self, _: &ErrorReply) {}
    fn batch_end(&mut self) {}
}
