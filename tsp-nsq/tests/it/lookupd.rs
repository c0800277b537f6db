//! A fake nsqlookupd: it answers as the test wants it to.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::http_stub::HttpStub;

#[derive(Debug, Default)]
struct State {
    nodes: Vec<String>,
    /// Paths that were asked for.
    asked: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct FakeLookupd {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    _server: HttpStub,
}

impl FakeLookupd {
    /// One that lists these nsqds for every topic.
    pub(crate) async fn start(nodes: &[&str]) -> Self {
        Self::at("127.0.0.1:0", nodes).await
    }

    pub(crate) async fn at(address: &str, nodes: &[&str]) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server =
            HttpStub::at(address, Arc::new(move |path| answer(path, &mut shared.lock().unwrap()))).await;
        let lookupd = Self { address: server.address.clone(), state, _server: server };
        lookupd.list(nodes);
        lookupd
    }

    /// From now on it lists these.
    pub(crate) fn list(&self, nodes: &[&str]) {
        self.state.lock().unwrap().nodes = nodes.iter().map(|&node| node.to_owned()).collect();
    }

    /// The paths that it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

fn answer(path: &str, state: &mut State) -> (&'static str, Value) {
    state.asked.push(path.to_owned());
    if state.nodes.is_empty() && path.starts_with("/lookup?") {
        return ("404 Not Found", json!({ "message": "TOPIC_NOT_FOUND" }));
    }
    let producers: Vec<_> = state.nodes.iter().map(|address| producer(address)).collect();
    ("200 OK", json!({ "channels": ["c"], "producers": producers }))
}

fn producer(address: &str) -> Value {
    let (host, port) = address.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    json!({
        "remote_address": "127.0.0.1:50000", "hostname": "node", "broadcast_address": host, "tcp_port": port,
        "http_port": 1, "version": "1.3.0", "tombstones": [false], "topics": ["t"],
    })
}
