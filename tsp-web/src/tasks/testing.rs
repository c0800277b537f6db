//! The router over a store in memory, with a clock that stands still.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, Kind, Secret, Visibility};
use tsp_core::egress::EgressPolicy;
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::schedule::{CronSpec, Schedule, Trigger};
use tsp_core::task::TokenHash;
use tsp_core::{
    AppId, Clock, ConfigId, Entropy, ManualClock, Millis, Name, NodeId, ShardId, TaskId, Timestamp,
};
use tsp_store::attempts::{BeginRequest, BeginResult, Finish, all};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, Hold, NewApp, NewKey, SaveConfig, Scope};
use tsp_store::fetching::ClaimRequest;
use tsp_store::fetching::EmbeddedOwnership as _;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::Actor;
use tsp_store::{AttemptStore as _, Catalog as _, FetcherStore as _, IdSource};
use tsp_store_testing::memory::MemoryStore;
use tsp_worker::http::check_tls;

use crate::ports::{Readiness, WakeHints};
use crate::{WebDependencies, WebSettings, WebState};

/// 2026-11-21T10:30:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
pub(super) const ADMIN: &str = "bootstrap-key-of-the-operator";

/// Each byte is the seed.
#[derive(Debug)]
struct Seeded(u8);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

/// What the fetcher received.
#[derive(Debug, Default)]
struct Hints(Mutex<Vec<(ConfigId, Timestamp)>>);

impl WakeHints for Hints {
    fn wake(&self, config: ConfigId, _shard: ShardId, due_at: Timestamp) {
        self.0.lock().push((config, due_at));
    }

    fn config_changed(&self, _config: ConfigId) {}

    fn unparked(&self, _config: ConfigId, _at: Timestamp) {}
}

#[derive(Debug)]
struct Ready;

impl Readiness for Ready {
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A service with the app `trade` and its configs `close-order` (delayed), `nightly` (cron), `open`
/// (delayed, public) and `slow` (delayed, async), and the app `other`.
pub(super) struct Service {
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: Arc<ManualClock>,
    hints: Arc<Hints>,
    router: Router,
    pub(super) trade: AppId,
    pub(super) other: AppId,
    configs: BTreeMap<String, ConfigId>,
    node: NodeId,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The status, and the code of a problem.
    pub(super) fn refused(&self) -> (u16, String) {
        let code = self.json()["code"].as_str().unwrap_or("no problem").to_owned();
        (self.status.as_u16(), code)
    }
}

impl Service {
    pub(super) async fn start() -> Self {
        Self::start_with(0).await
    }

    pub(super) async fn start_with(seed: u8) -> Self {
        let store = Arc::new(MemoryStore::new(4));
        let clock = Arc::new(ManualClock::at(NOW));
        let ids = IdSource::lease(store.as_ref(), 0, clock.now()).await.unwrap();
        let hints = Arc::new(Hints::default());
        let settings = WebSettings {
            payload_bytes_max: 1_000,
            bootstrap_key: Some(Secret::new(ADMIN)),
            ..WebSettings::default()
        };
        let state = WebState::new(WebDependencies {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Arc::new(Seeded(seed)),
            ids,
            hints: hints.clone(),
            egress: EgressPolicy::default(),
            check_tls: |tls| check_tls(tls).map_err(|problem| (problem.field, problem.message)),
            settings,
            metrics: None,
            dev: None,
            readiness: Arc::new(Ready),
            topology: Arc::new(crate::testing::FixedTopology::default()),
        });
        let node = store.register_node("n", NOW).await.unwrap();
        let (trade, other) = (app(&store, "trade").await, app(&store, "other").await);
        let mut service = Self {
            router: crate::router(state),
            store,
            clock,
            hints,
            trade,
            other,
            configs: BTreeMap::new(),
            node,
        };
        for (name, edit) in [
            ("close-order", (|_| {}) as fn(&mut ConfigSpec)),
            ("nightly", make_cron),
            ("open", |spec| spec.visibility = Visibility::Public),
            ("slow", |spec| spec.asynchronous.enabled = true),
        ] {
            service.add_config(trade, name, edit).await;
        }
        service
    }

    pub(super) async fn add_config(&mut self, app: AppId, name: &str, edit: impl FnOnce(&mut ConfigSpec)) {
        let mut spec = spec(name);
        edit(&mut spec);
        let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
        let saved = self.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
        let IdempotencyResult::Fresh(ConfigSaved::Created(config)) = saved else { panic!("{saved:?}") };
        self.configs.insert(name.to_owned(), config.id);
    }

    pub(super) fn config(&self, name: &str) -> ConfigId {
        self.configs[name]
    }

    pub(super) async fn disable(&self, config: &str) {
        self.store.hold_config(self.config(config), Hold::Disable, &Actor::system(), NOW).await.unwrap();
    }

    /// A key of `app` (`None`: global) with these scopes.
    pub(super) async fn key(&self, app: Option<AppId>, scopes: &[Scope]) -> String {
        let text = format!("tsp_{app:?}_{scopes:?}");
        let key = NewKey {
            app,
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

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, ADMIN, &[], "")).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, ADMIN, &[], body)).await
    }

    /// Submits to `trade` and returns the task's id.
    pub(super) async fn submit(&self, body: &str) -> String {
        let answer = self.post("/apps/trade/tasks", body.to_owned()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        answer.json()["task"]["id"].as_str().unwrap().to_owned()
    }

    /// What the fetcher received since it was last asked, earliest first.
    pub(super) fn woken(&self) -> Vec<(ConfigId, Timestamp)> {
        let mut woken = std::mem::take(&mut *self.hints.0.lock());
        woken.sort();
        woken
    }

    /// Claims and begins every task that is due.
    pub(super) async fn begin(&self, token: Option<TokenHash>) -> Vec<TaskId> {
        let owner = self.store.take_shards(self.node, self.clock.now()).await.unwrap();
        let now = self.clock.now();
        let requests =
            self.configs.values().map(|&config| ClaimRequest { config, due_by: now, limit: 100 }).collect();
        let rows = self.store.claim(owner, requests, now).await.unwrap().tasks;
        let batch = rows
            .iter()
            .map(|task| BeginRequest { id: task.id, version: task.version, row: None, token })
            .collect();
        let begun = all(self.store.begin(self.node, batch, now).await).unwrap();
        begun
            .into_iter()
            .filter_map(|begun| if let BeginResult::Run(task) = begun { Some(task.id) } else { None })
            .collect()
    }

    /// Ends the running attempt of a task.
    pub(super) async fn finish(&self, id: TaskId, attempt: u32, outcome: Outcome) {
        let verdict = Verdict::new(outcome, "http_status").with_status(200);
        let finish = Finish { id, attempt, verdict, ended_at: None, jitter_fraction: 0.0, row: None };
        all(self.store.finish(self.node, vec![finish], self.clock.now()).await).unwrap();
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let bearer = format!("Bearer {key}");
    let mut own = Vec::new();
    if !key.is_empty() {
        own.push(("authorization", bearer.as_str()));
    }
    if method == Method::POST {
        own.push(("content-type", "application/json"));
    }
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = format!("/api/v1{path}").parse().unwrap();
    for (name, value) in own.iter().chain(headers) {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn app(store: &MemoryStore, name: &str) -> AppId {
    let new = NewApp { name: Name::new(name).unwrap(), description: String::new(), owner: String::new() };
    let saved = store.create_app(new, None, &Actor::system(), NOW).await.unwrap();
    let IdempotencyResult::Fresh(AppSaved::Saved(app)) = saved else { panic!("{saved:?}") };
    app.id
}

fn make_cron(spec: &mut ConfigSpec) {
    let cron = CronSpec::parse("0 0 2 * * ?", None, "UTC").unwrap();
    spec.kind = Kind::Cron;
    spec.schedule = Some(Schedule::new(Trigger::Cron(cron)));
}

fn spec(name: &str) -> ConfigSpec {
    ConfigSpec {
        asynchronous: AsyncPolicy { enabled: false, deadline: Millis::from_mins(15) },
        ..ConfigSpec::new(Name::new(name).unwrap(), HttpTarget::post("http://orders.internal/close"))
    }
}
