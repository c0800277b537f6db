//! Publishing.

mod batch;
mod node;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use metrics::{Counter, Histogram};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::codec::{Command, MESSAGE_OVERHEAD};
use crate::config::{ClientConfig, Nsqds};
use crate::discovery::{self, Addresses, Source};
use crate::error::PublishError;
use crate::metric_names;
use crate::names::Topic;
use crate::wire::outbox::{NoAnswer, Outbox};
use node::Node;

/// How often lookups are asked for nsqds that came or went.
const LOOKUP_EVERY: Duration = Duration::from_mins(1);
/// How long the first publish waits for the first answer of a lookup.
const FIRST_LOOKUP: Duration = Duration::from_secs(5);

type Nodes = Arc<[Arc<Node>]>;

/// Publishes to several nsqds: each call goes to the next one that is connected, round robin, and to another if
/// that one is lost before anything was sent. One connection to each, opened when it is first wanted. There is
/// no order between publishes.
///
/// A publish waits for an attempt to connect that is under way, and for no other: while all nsqds are down it
/// fails at once, and the connections are tried again in the background.
///
/// Cheap to clone. Dropping the last clone ends the connections at once; [`Producer::close`] lets them finish.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<ClientConfig>,
    nodes: watch::Receiver<Option<Nodes>>,
    turn: AtomicUsize,
    closing: AtomicBool,
    meters: Meters,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the search for nsqds before the connections.
    search: Mutex<Option<DropGuard>>,
    /// Ends all tasks with the last clone.
    _guard: DropGuard,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    /// Connects to nothing yet. Must be called within a tokio runtime.
    pub fn start(nsqds: Nsqds, config: ClientConfig) -> Self {
        let config = Arc::new(config);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let search = stop.child_token();
        let (send_nodes, nodes) = watch::channel(None);
        let connections =
            ConnectionManager { config: config.clone(), tasks: tasks.clone(), stop: stop.clone() };
        let source = Source {
            nsqds,
            topic: None,
            every: LOOKUP_EVERY,
            jitter: config.jitter.clone(),
            known: config.known_nsqds.clone(),
        };
        let (addresses, _) = discovery::start(source, &tasks, search.clone());
        // A fixed list is known before this returns.
        connections.renew(&send_nodes, &addresses);
        tasks.spawn({
            let search = search.clone();
            async move {
                let _ = search.run_until_cancelled(connections.follow(send_nodes, addresses)).await;
            }
        });
        Self {
            inner: Arc::new(Inner {
                config,
                nodes,
                turn: AtomicUsize::new(0),
                closing: AtomicBool::new(false),
                meters: Meters::new(),
                tasks,
                _guard: stop.clone().drop_guard(),
                search: Mutex::new(Some(search.drop_guard())),
                stop,
            }),
        }
    }

    /// Returns when nsqd has answered this publish. There is no time limit while nsqd lives: wrap it in one if
    /// that is needed. A publish that is given up may still be stored.
    pub async fn publish(&self, topic: &Topic, body: Bytes) -> Result<(), PublishError> {
        let outcome = self.publish_one(topic, body).await;
        self.inner.meters.count(&outcome);
        outcome
    }

    /// Publishes in batches, bounded by bytes and by count, and gives one result for each message, in their
    /// order. A batch that nsqd refuses because of one message is sent again message by message, since none
    /// of it is stored then.
    pub async fn publish_all(&self, topic: &Topic, bodies: Vec<Bytes>) -> Vec<Result<(), PublishError>> {
        let mut results: Vec<_> = bodies.iter().map(|body| self.check(body)).collect();
        let good: Vec<usize> = (0..bodies.len()).filter(|at| results[*at].is_ok()).collect();
        let cuts = batch::cut(good.iter().map(|at| bodies[*at].len()));
        let batches = cuts.into_iter().map(|range| {
            let batch: Arc<[Bytes]> = good[range.clone()].iter().map(|at| bodies[*at].clone()).collect();
            async { (range, self.publish_batch(topic, batch).await) }
        });
        for (range, outcomes) in join_all(batches).await {
            for (at, outcome) in good[range].iter().zip(outcomes) {
                results[*at] = outcome;
            }
        }
        for result in &results {
            self.inner.meters.count(result);
        }
        results
    }

    /// Takes no more publishes, waits for the answers to those under way, and ends the connections; after
    /// `deadline` without them.
    pub async fn close(&self, deadline: Duration) {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Release);
        inner.search.lock().take();
        if let Some(nodes) = &*inner.nodes.borrow() {
            nodes.iter().for_each(|node| node.retire());
        }
        inner.tasks.close();
        let _ = timeout(deadline, inner.tasks.wait()).await;
        inner.stop.cancel();
        inner.tasks.wait().await;
    }

    async fn publish_one(&self, topic: &Topic, body: Bytes) -> Result<(), PublishError> {
        self.check(&body)?;
        let bytes = body.len();
        self.dispatch(&Command::Pub(topic.clone(), body), bytes).await
    }

    async fn publish_batch(&self, topic: &Topic, bodies: Arc<[Bytes]>) -> Vec<Result<(), PublishError>> {
        if let [body] = &*bodies {
            return vec![self.publish_one(topic, body.clone()).await];
        }
        let bytes = bodies.iter().map(Bytes::len).sum();
        match self.dispatch(&Command::Mpub(topic.clone(), bodies.clone()), bytes).await {
            Err(PublishError::Refused { code, .. }) if code == "E_BAD_MESSAGE" || code == "E_BAD_BODY" => {
                let mut outcomes = Vec::with_capacity(bodies.len());
                for body in &*bodies {
                    outcomes.push(self.publish_one(topic, body.clone()).await);
                }
                outcomes
            }
            outcome => vec![outcome; bodies.len()],
        }
    }

    /// What nsqd would refuse, and end the connection for, is not sent.
    fn check(&self, body: &Bytes) -> Result<(), PublishError> {
        let refused = |text| Err(PublishError::Refused { code: "E_BAD_MESSAGE".to_owned(), text });
        if body.is_empty() {
            return refused("the body is empty".to_owned());
        }
        let max = self.inner.config.max_frame.saturating_sub(MESSAGE_OVERHEAD);
        if body.len() > max {
            return refused(format!("the body has {} bytes, more than {max}", body.len()));
        }
        Ok(())
    }

    /// To the next nsqd that is connected; if none is, to the first that can be.
    async fn dispatch(&self, command: &Command, bytes: usize) -> Result<(), PublishError> {
        let nodes = self.nodes().await?;
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..nodes.len()).map(|at| &nodes[turn.wrapping_add(at) % nodes.len()]);
        for node in in_turn() {
            if let Some(outbox) = node.ready()
                && let Some(outcome) = self.send(node, &outbox, command, bytes).await
            {
                return outcome;
            }
        }
        let mut why = "no nsqd is known".to_owned();
        for node in in_turn() {
            match node.reach().await {
                Ok(outbox) => match self.send(node, &outbox, command, bytes).await {
                    Some(outcome) => return outcome,
                    None => "the connection ended".clone_into(&mut why),
                },
                Err(reason) => why = format!("`{}`: {reason}", node.address),
            }
        }
        Err(PublishError::Unavailable { why })
    }

    /// `None` when nothing was sent.
    async fn send(
        &self,
        node: &Node,
        outbox: &Outbox,
        command: &Command,
        bytes: usize,
    ) -> Option<Result<(), PublishError>> {
        let started = Instant::now();
        let outcome = match node.ask(outbox, command.clone(), bytes).await {
            Ok(()) => Ok(()),
            Err(NoAnswer::NotSent) => return None,
            Err(NoAnswer::Lost(why)) => Err(PublishError::Unknown { why }),
            Err(NoAnswer::Refused(reply)) => Err(PublishError::answered(reply)),
        };
        self.inner.meters.seconds.record(started.elapsed());
        Some(outcome)
    }

    async fn nodes(&self) -> Result<Nodes, PublishError> {
        if self.inner.closing.load(Ordering::Acquire) {
            return Err(PublishError::Unavailable { why: "the producer is closed".to_owned() });
        }
        let mut nodes = self.inner.nodes.clone();
        let first = timeout(FIRST_LOOKUP, nodes.wait_for(Option::is_some)).await;
        match first.as_ref().map(|known| known.as_ref().map(|nodes| (**nodes).clone())) {
            Ok(Ok(Some(nodes))) => Ok(nodes),
            _ => Err(PublishError::Unavailable { why: "no nsqlookupd answers".to_owned() }),
        }
    }
}

struct Meters {
    ok: Counter,
    refused: Counter,
    unknown: Counter,
    unavailable: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new() -> Self {
        let publishes =
            |outcome: &'static str| metrics::counter!(metric_names::PUBLISHES, "outcome" => outcome);
        Self {
            ok: publishes("ok"),
            refused: publishes("error"),
            unknown: publishes("unknown"),
            unavailable: publishes("unavailable"),
            seconds: metrics::histogram!(metric_names::PUBLISH_SECONDS),
        }
    }

    fn count(&self, outcome: &Result<(), PublishError>) {
        let counter = match outcome {
            Ok(()) => &self.ok,
            Err(PublishError::Refused { .. }) => &self.refused,
            Err(PublishError::Unknown { .. }) => &self.unknown,
            Err(PublishError::Unavailable { .. }) => &self.unavailable,
        };
        counter.increment(1);
    }
}

/// Starts and retires nodes as addresses come and go.
struct ConnectionManager {
    config: Arc<ClientConfig>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ConnectionManager {
    async fn follow(self, nodes: watch::Sender<Option<Nodes>>, mut addresses: Addresses) {
        while addresses.changed().await.is_ok() {
            self.renew(&nodes, &addresses);
        }
    }

    fn renew(&self, nodes: &watch::Sender<Option<Nodes>>, addresses: &Addresses) {
        let Some(wanted) = addresses.borrow().clone() else { return };
        let old = nodes.borrow().clone().unwrap_or_default();
        let renewed = wanted.iter().map(|address| {
            let kept = old.iter().find(|node| node.address == *address);
            kept.cloned().unwrap_or_else(|| self.connect(address.clone()))
        });
        nodes.send_replace(Some(renewed.collect()));
        old.iter().filter(|node| !wanted.contains(&node.address)).for_each(|node| node.retire());
    }

    fn connect(&self, address: String) -> Arc<Node> {
        let node = Arc::new(Node::new(address));
        let (config, tasks, stop) = (self.config.clone(), self.tasks.clone(), self.stop.clone());
        self.tasks.spawn(node::keep(node.clone(), config, tasks, stop));
        node
    }
}
