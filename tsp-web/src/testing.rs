//! The router over a store in memory, with a clock that stands still.

mod store;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use tsp_core::config::Secret;
use tsp_core::egress::EgressPolicy;
use tsp_core::{Clock, ConfigId, Entropy, ManualClock, Millis, ShardId, Timestamp};
use tsp_store::catalog::{NewKey, Scope};
use tsp_store::tasks::Actor;
use tsp_store::{Catalog as _, IdSource};
use tsp_worker::http::check_tls;

use crate::ports::{ClockAdvance, DevHooks, Readiness, WakeHints};
use crate::{WebDependencies, WebSettings, WebState};

pub(crate) use store::Cluster;
pub(crate) use topology::FixedTopology;

/// 2026-11-21T10:30:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
pub(crate) const BOOTSTRAP: &str = "bootstrap-key-of-the-operator";

/// Bytes that differ from draw to draw, the same in every run.
#[derive(Debug, Default)]
struct CountingEntropy(AtomicU8);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

#[derive(Debug, Default)]
struct Hints {
    changed: Mutex<Vec<ConfigId>>,
    unparked: Mutex<Vec<ConfigId>>,
}

impl WakeHints for Hints {
    fn wake(&self, _config: ConfigId, _shard: ShardId, _due_at: Timestamp) {}

    fn config_changed(&self, config: ConfigId) {
        self.changed.lock().push(config);
    }

    fn unparked(&self, config: ConfigId, _at: Timestamp) {
        self.unparked.lock().push(config);
    }
}

#[derive(Debug, Default)]
struct Missing(Mutex<Vec<String>>);

impl Readiness for Missing {
    fn missing(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[derive(Debug)]
struct Dev(Arc<ManualClock>);

#[async_trait]
impl DevHooks for Dev {
    async fn advance_clock(&self, by: Millis) -> ClockAdvance {
        self.0.advance(by);
        ClockAdvance { now: self.0.now(), fired: 7 }
    }
}

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<Cluster>,
    pub(crate) topology: Arc<FixedTopology>,
    pub(crate) state: Arc<WebState>,
    hints: Arc<Hints>,
    missing: Arc<Missing>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The body, after a look at the status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The status and the code of a problem.
    pub(crate) fn refused(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{:?}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }

    /// The fields named by a problem, sorted.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let mut fields: Vec<_> =
            errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect();
        fields.sort();
        fields
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    pub(crate) async fn dev() -> Self {
        Self::start_with(true).await
    }

    /// A state alone, for tests of single layers.
    pub(crate) async fn state() -> Arc<WebState> {
        Self::start().await.state
    }

    async fn start_with(is_dev: bool) -> Self {
        let store = Arc::new(Cluster::new(4));
        let clock = Arc::new(ManualClock::at(NOW));
        let (hints, missing) = (Arc::new(Hints::default()), Arc::new(Missing::default()));
        let topology = Arc::new(FixedTopology::default());
        let state = WebState::new(WebDependencies {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Arc::new(CountingEntropy::default()),
            ids: IdSource::lease(&store.inner, 0, clock.now()).await.unwrap(),
            hints: hints.clone(),
            egress: EgressPolicy::default(),
            check_tls: |tls| check_tls(tls).map_err(|problem| (problem.field, problem.message)),
            settings: WebSettings {
                payload_bytes_max: 1_000,
                bootstrap_key: Some(Secret::new(BOOTSTRAP)),
                ..WebSettings::default()
            },
            metrics: None,
            dev: is_dev.then(|| -> Arc<dyn DevHooks> { Arc::new(Dev(clock.clone())) }),
            readiness: missing.clone(),
            topology: topology.clone(),
        });
        Self { router: crate::router(state.clone()), clock, store, topology, state, hints, missing }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        answered(self.router.clone(), request).await
    }

    /// As the bootstrap key; a null body is none.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        self.call_with(method, path, &[("authorization", &format!("Bearer {BOOTSTRAP}"))], body).await
    }

    pub(crate) async fn call_as(&self, key: &str, method: Method, path: &str, body: Value) -> Answer {
        self.call_with(method, path, &[("authorization", &format!("Bearer {key}"))], body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    /// Makes an app.
    pub(crate) async fn app(&self, name: &str) {
        self.post("/api/v1/apps", json!({ "name": name })).await.expect(201);
    }

    /// Makes a key of an app and returns it.
    pub(crate) async fn key(&self, app: &str, scopes: &[&str]) -> String {
        let body = json!({"name": "test", "scopes": scopes});
        let key = self.post(&format!("/api/v1/apps/{app}/keys"), body).await.expect(201);
        key["key"].as_str().unwrap().to_owned()
    }

    /// Makes a global key and returns it.
    pub(crate) async fn global_key(&self, scopes: &[Scope]) -> String {
        let text = format!("tsp_global_{scopes:?}");
        let key = NewKey {
            app: None,
            name: "test".to_owned(),
            scopes: scopes.to_vec(),
            hash: Sha256::digest(text.as_bytes()).into(),
            prefix: "tsp_".to_owned(),
            rate_limit: None,
            expires_at: None,
        };
        self.store.create_key(key, &Actor::system(), NOW).await.unwrap();
        text
    }

    /// How many changes of configs the fetcher received since the last call.
    pub(crate) fn told(&self) -> usize {
        std::mem::take(&mut *self.hints.changed.lock()).len()
    }

    /// The configs whose wait was ended, since the last time.
    pub(crate) fn unparked(&self) -> Vec<ConfigId> {
        std::mem::take(&mut *self.hints.unparked.lock())
    }

    pub(crate) fn is_missing(&self, what: &[&str]) {
        *self.missing.0.lock() = what.iter().map(|&what| what.to_owned()).collect();
    }
}

/// What a router answers.
pub(crate) async fn answered(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The smallest config of kind `delayed`.
pub(crate) fn delayed(name: &str) -> Value {
    json!({"name": name, "kind": "delayed", "target": {"type": "http", "url": "http://orders.internal/close"}})
}

/// The smallest config of kind `cron`.
pub(crate) fn cron(name: &str) -> Value {
    let mut config = delayed(name);
    config["kind"] = "cron".into();
    config["schedule"] = json!({"type": "cron", "expr": "0 0 2 * * ?", "timezone": "Asia/Shanghai"});
    config
}
