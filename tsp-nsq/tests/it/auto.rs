//! A fake nsqd that plays by itself, for scenarios with many commands or connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::fake::{Command, FakeNsqd, NsqdRecord, Peer, message};

/// How it treats its clients.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    /// Between heartbeats; a client that leaves two unanswered is cut off.
    pub(crate) heartbeat: Duration,
    /// Resets a connection instead of answering this publish, counted per connection from 1.
    pub(crate) reset_at: Option<usize>,
    /// Answers a publish of such a body with this error, and closes.
    pub(crate) refuse: Option<(&'static [u8], &'static str)>,
    /// How many messages it has to give, as far as the clients are ready for them.
    pub(crate) messages: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(30), reset_at: None, refuse: None, messages: 0 }
    }
}

/// Shared by the connections.
#[derive(Debug, Default)]
struct State {
    /// RDY of each open connection.
    ready: HashMap<usize, u32>,
    delivered: u64,
    hang_up: Arc<Notify>,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct AutoNsqd {
    pub(crate) address: String,
    seen: Arc<Mutex<NsqdRecord>>,
    state: Arc<Mutex<State>>,
    _task: JoinSet<()>,
}

impl AutoNsqd {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let fake = FakeNsqd::start().await;
        let (address, seen) = (fake.address(), Arc::clone(&fake.seen));
        let state = Arc::<Mutex<State>>::default();
        let mut task = JoinSet::new();
        task.spawn(accept(fake, behaviour, Arc::clone(&state)));
        Self { address, seen, state, _task: task }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, NsqdRecord> {
        self.seen.lock().unwrap()
    }

    /// Closes all its connections.
    pub(crate) fn hang_up(&self) {
        self.state.lock().unwrap().hang_up.notify_waiters();
    }

    /// The sum of RDY over the open connections.
    pub(crate) fn ready(&self) -> u32 {
        self.state.lock().unwrap().ready.values().sum()
    }
}

async fn accept(fake: FakeNsqd, behaviour: Behaviour, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    for id in 0.. {
        let peer = fake.accept().await;
        let (behaviour, state) = (behaviour.clone(), Arc::clone(&state));
        connections.spawn(async move {
            Connection { id, peer, behaviour, state: Arc::clone(&state), published: 0, in_flight: 0 }
                .play()
                .await;
            state.lock().unwrap().ready.remove(&id);
        });
    }
}

struct Connection {
    id: usize,
    peer: Peer,
    behaviour: Behaviour,
    state: Arc<Mutex<State>>,
    published: usize,
    in_flight: u32,
}

impl Connection {
    async fn play(mut self) {
        self.peer.identify("{}").await;
        let mut beats = interval(self.behaviour.heartbeat);
        beats.tick().await;
        let hang_up = Arc::clone(&self.state.lock().unwrap().hang_up);
        let hang_up = hang_up.notified();
        tokio::pin!(hang_up);
        loop {
            tokio::select! {
                () = &mut hang_up => return,
                command = self.peer.command() => {
                    let Some(command) = command else { return };
                    if !self.answer(command).await {
                        return;
                    }
                }
                _ = beats.tick() => {
                    if self.peer.silent == 2 {
                        return;
                    }
                    self.peer.heartbeat().await;
                }
            }
            self.deliver().await;
        }
    }

    /// False when the connection is to be closed.
    async fn answer(&mut self, command: Command) -> bool {
        match command.name() {
            "SUB" => self.peer.respond("OK").await,
            "CLS" => self.peer.respond("CLOSE_WAIT").await,
            "RDY" => {
                let ready = command.line[4..].parse().unwrap();
                self.state.lock().unwrap().ready.insert(self.id, ready);
            }
            "FIN" | "REQ" => self.in_flight -= 1,
            "PUB" | "MPUB" => return self.publish(command).await,
            _ => {}
        }
        true
    }

    async fn publish(&mut self, command: Command) -> bool {
        self.published += command.bodies().len();
        if self.behaviour.reset_at.is_some_and(|limit| self.published >= limit) {
            self.peer.reset();
            return false;
        }
        if let Some((prefix, error)) = self.behaviour.refuse
            && command.bodies().iter().any(|body| body.starts_with(prefix))
        {
            self.peer.refuse(error).await;
            return false;
        }
        self.peer.ack(&command).await;
        true
    }

    async fn deliver(&mut self) {
        let mut frames = Vec::new();
        {
            let mut state = self.state.lock().unwrap();
            let ready = state.ready.get(&self.id).copied().unwrap_or(0);
            while self.in_flight < ready && state.delivered < self.behaviour.messages {
                state.delivered += 1;
                self.in_flight += 1;
                frames.extend(message(state.delivered, 1, b"body"));
            }
        }
        if !frames.is_empty() {
            self.peer.send(&frames).await;
        }
    }
}
