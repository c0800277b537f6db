//! Who serves and who does what, as the API shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};
use tsp_core::config::TaskConfig;
use tsp_core::task_key::span_shards;
use tsp_core::{Clock, Millis, Name, ShardId, Timestamp};
use tsp_queue::memory::MemoryQueue;
use tsp_store::fetching::Owner;
use tsp_store::{AuditorStore as _, Catalog as _, FetcherStore as _, StoreError};
use tsp_store_sqlite::SqliteStore;
use tsp_web::Topology;
use tsp_web::ports::{NodeState, NodeView, QueueView, ShardView, ShardsView};

use super::dependencies::ProcessDependencies;
use super::embedded::Embedded;
use super::node_name::node_name;
use crate::settings::Settings;

/// The data source that holds every shard of an embedded store.
const SOURCE: &str = "sqlite";
/// A rate is measured over at least this long.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One process that is everything.
#[derive(Debug)]
pub(super) struct EmbeddedTopology {
    store: Arc<SqliteStore>,
    owner: Owner,
    queue: Arc<MemoryQueue>,
    queue_name: Name,
    clock: Arc<dyn Clock>,
    node_name: String,
    started_at: Timestamp,
    rate: Rate,
}

impl EmbeddedTopology {
    pub(super) fn new(deps: &ProcessDependencies, embedded: &Embedded, settings: &Settings) -> Self {
        let clock = deps.clock();
        Self {
            store: embedded.store.clone(),
            owner: embedded.owner,
            queue: embedded.queue.clone(),
            queue_name: deps.queue_name.clone(),
            node_name: node_name(settings),
            started_at: clock.now(),
            clock,
            rate: Rate::new(deps.sent.clone(), Instant::now()),
        }
    }

    /// Messages that wait, and messages out at workers.
    fn depth(&self) -> (i64, i64) {
        let (waiting, out) = self.queue.depth(&self.queue_name).unwrap_or_default();
        (count(waiting), count(out))
    }
}

#[async_trait]
impl Topology for EmbeddedTopology {
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        Ok(vec![NodeView {
            id: self.owner.node,
            name: self.node_name.clone(),
            roles: ["web", "fetcher", "worker"].map(str::to_owned).to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: NodeState::Alive,
            started_at: self.started_at,
            // Its lock file is its lease.
            lease_until: None,
            clock_offset: Millis::ZERO,
            running: self.depth().1,
            shards: i64::from(self.store.shards()),
            config_seq: self.store.config_cache().seq(),
        }])
    }

    async fn shards(&self) -> Result<ShardsView, StoreError> {
        let now = self.clock.now();
        let (earliest_due, audit) = (self.store.earliest_due().await?, self.store.audit(now).await?);
        let open: i64 = audit.open.iter().map(|(_, count)| count).sum();
        let shards = self.store.shards();
        let configs = self.store.config_cache().all_configs();
        let mut lags: BTreeMap<(Name, u16), Millis> = BTreeMap::new();
        for group in groups(&configs) {
            lags.extend((0..shards).map(|shard| ((group.clone(), shard), Millis::ZERO)));
        }
        for earliest in earliest_due.iter().filter(|earliest| earliest.due_at < now) {
            let Some(config) = configs.iter().find(|config| config.id == earliest.config) else { continue };
            for shard in homes(config, shards) {
                let lag = lags.entry((config.spec.group.clone(), shard)).or_default();
                *lag = now.since(earliest.due_at).max(*lag);
            }
        }
        // The rows are counted for the whole store only.
        let open = (open == 0 || lags.len() == 1).then_some(open);
        let rows = lags.into_iter().map(|((group, shard), lag)| ShardView {
            shard,
            group,
            source: SOURCE.to_owned(),
            owner: Some(self.owner.node),
            epoch: self.owner.epoch,
            lag: Some(lag),
            open,
        });
        Ok(ShardsView { rows: rows.collect(), away: Vec::new() })
    }

    async fn queues(&self) -> Result<Vec<QueueView>, StoreError> {
        let (depth, in_flight) = self.depth();
        let rate = self.rate.at(Instant::now()).await;
        let name = self.queue_name.to_string();
        Ok(vec![QueueView { name, depth, in_flight, rate, consumers: 1 }])
    }
}

/// The groups that have configs, or the one that configs have by default.
fn groups(configs: &[Arc<TaskConfig>]) -> BTreeSet<Name> {
    let mut groups: BTreeSet<Name> = configs.iter().map(|config| config.spec.group.clone()).collect();
    if groups.is_empty() {
        groups.insert(Name::default_name());
    }
    groups
}

/// The shards that may hold tasks of a config: on which of them the late one is, its head does not tell.
fn homes(config: &TaskConfig, shards: u16) -> impl Iterator<Item = u16> {
    span_shards(config.id, config.spec.span, shards).map(ShardId::get)
}

fn count(messages: usize) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

/// How many a second, between the last two questions that were far enough apart.
#[derive(Debug)]
struct Rate {
    total: Arc<AtomicU64>,
    seen: Mutex<RateSample>,
}

#[derive(Debug)]
struct RateSample {
    at: Instant,
    total: u64,
    rate: f64,
}

impl Rate {
    fn new(total: Arc<AtomicU64>, now: Instant) -> Self {
        let seen = RateSample { at: now, total: total.load(Ordering::Relaxed), rate: 0.0 };
        Self { total, seen: Mutex::new(seen) }
    }

    async fn at(&self, now: Instant) -> f64 {
        let mut seen = self.seen.lock().await;
        let passed = now.saturating_duration_since(seen.at);
        if passed >= RATE_OVER {
            let total = self.total.load(Ordering::Relaxed);
            let new = u32::try_from(total.saturating_sub(seen.total)).unwrap_or(u32::MAX);
            *seen = RateSample { at: now, total, rate: f64::from(new) / passed.as_secs_f64() };
        }
        seen.rate
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};
    use tsp_client::Client;

    use super::*;
    use crate::wiring::testing::TestServer;

    async fn items(client: &Client, path: &str) -> Vec<Value> {
        let page: Value = client.request(Method::GET, path).send().await.unwrap().json().unwrap();
        page["items"].as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn an_embedded_server_is_one_node_that_owns_everything() {
        let server = TestServer::start().await;
        let client = server.client();
        let nodes = items(&client, "/nodes").await;
        let [node] = nodes.as_slice() else { panic!("{nodes:?}") };
        assert_eq!((&node["state"], &node["lease_until"]), (&json!("alive"), &Value::Null));
        assert_eq!(node["roles"], json!(["web", "fetcher", "worker"]));
        let shards = items(&client, "/shards").await;
        assert_eq!(node["load"]["shards"], shards.len());
        for (number, shard) in shards.iter().enumerate() {
            assert_eq!(
                (&shard["shard"], &shard["owner"], &shard["source"], &shard["lag_ms"], &shard["open"]),
                (&json!(number), &node["id"], &json!("sqlite"), &json!(0), &json!(0))
            );
        }
        let queues = items(&client, "/queues").await;
        assert_eq!(queues.len(), 1);
        let idle = json!({"name": "default", "depth": 0, "in_flight": 0, "rate": 0.0, "consumers": 1});
        assert_eq!(queues[0], idle);
        server.stop().await;
    }

    #[tokio::test]
    async fn a_task_that_nobody_takes_shows_on_its_shard() {
        let server = TestServer::start().await;
        let client = server.client();
        let send = |path: &'static str, body: Value| client.request(Method::POST, path).json(&body).send();
        send("/apps", json!({"name": "trade"})).await.unwrap();
        let target = json!({"type": "http", "url": "http://127.0.0.1:1999/"});
        let config = json!({"name": "c", "kind": "delayed", "target": target});
        send("/apps/trade/configs", config).await.unwrap();
        send("/apps/trade/configs/c/pause", json!({})).await.unwrap();
        send("/apps/trade/tasks", json!({"config": "c", "delay": "1s"})).await.unwrap();
        send("/dev/clock", json!({"advance": "1m"})).await.unwrap();
        let shards = items(&client, "/shards").await;
        assert!(shards.iter().all(|shard| shard["group"] == "default"), "{shards:?}");
        let late = shards.iter().filter(|shard| shard["lag_ms"].as_i64().unwrap() >= 59_000);
        assert_eq!(late.count(), 1, "{shards:?}");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_rate_is_of_the_time_since_it_was_last_asked() {
        let (total, start) = (Arc::new(AtomicU64::new(5)), Instant::now());
        let rate = Rate::new(total.clone(), start);
        total.store(25, Ordering::Relaxed);
        let after = |ms| start + Duration::from_millis(ms);
        let mut seen = Vec::new();
        for ms in [900, 2_000, 2_500, 4_000] {
            seen.push(rate.at(after(ms)).await);
        }
        let wanted: [f64; 4] = [0.0, 10.0, 10.0, 0.0];
        assert!(seen.iter().zip(wanted).all(|(seen, wanted)| (seen - wanted).abs() < 1e-9), "{seen:?}");
    }
}
