//! Who is there and who does what, as the databases and the queue say it.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use tsp_core::{Clock, Millis, Name};
use tsp_fetcher::shard_groups::GroupSource;
use tsp_queue::nsq::NsqPublisher;
use tsp_store::cluster::{LeaseStore as _, NodeRow};
use tsp_store::{FetcherStore as _, StoreError};
use tsp_store_mysql::MySqlStore;
use tsp_web::Topology;
use tsp_web::ports::{NodeState, NodeView, QueueView, ShardView, ShardsView};

use super::groups::groups_of;
use super::state::Cluster;
use crate::wiring::dependencies::ProcessDependencies;

pub(in crate::wiring) fn topology(deps: &ProcessDependencies, cluster: &Cluster) -> Arc<dyn Topology> {
    Arc::new(ClusterTopology::new(deps, cluster))
}

struct ClusterTopology {
    store: MySqlStore,
    clock: Arc<dyn Clock>,
    publisher: Arc<NsqPublisher>,
    queue: Name,
    groups: GroupSource,
    /// Messages through each queue when it was last asked for, to tell its rate.
    seen: Mutex<HashMap<Name, (Instant, u64)>>,
}

impl ClusterTopology {
    fn new(deps: &ProcessDependencies, cluster: &Cluster) -> Self {
        Self {
            store: cluster.store.clone(),
            clock: deps.clock(),
            publisher: cluster.publisher.clone(),
            queue: deps.queue_name.clone(),
            groups: groups_of(deps.config_cache().clone()),
            seen: Mutex::default(),
        }
    }
}

impl std::fmt::Debug for ClusterTopology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterTopology")
    }
}

#[async_trait]
impl Topology for ClusterTopology {
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        Ok(self.store.nodes().await?.into_iter().map(view).collect())
    }

    async fn shards(&self) -> Result<ShardsView, StoreError> {
        let shard_groups = self.store.shard_groups(&(self.groups)()).await?;
        let looks = shard_groups.rows.into_iter().map(async |row| {
            let fetcher_store = self.store.fetcher_store(row.shard_group.clone());
            let open = fetcher_store.open_rows().await;
            let earliest_due = fetcher_store.earliest_due().await;
            let now = self.clock.now();
            let first = earliest_due
                .ok()
                .map(|earliest_due| earliest_due.into_iter().map(|earliest| earliest.due_at).min());
            ShardView {
                shard: row.shard_group.shard.get(),
                group: row.shard_group.group,
                source: row.source,
                owner: row.owner,
                epoch: row.epoch,
                lag: first
                    .map(|first| first.map_or(Millis::ZERO, |first| now.since(first).max(Millis::ZERO))),
                open: open.ok(),
            }
        });
        let rows = futures::future::join_all(looks).await;
        let away = shard_groups.away.into_iter().map(|(shard, why)| (shard.get(), why)).collect();
        Ok(ShardsView { rows, away })
    }

    async fn queues(&self) -> Result<Vec<QueueView>, StoreError> {
        let depth = self.publisher.depth(&self.queue).await;
        let now = Instant::now();
        let before = self.seen.lock().insert(self.queue.clone(), (now, depth.message_count));
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(vec![QueueView {
            name: self.queue.to_string(),
            depth: count(depth.depth),
            in_flight: count(depth.in_flight),
            rate: before
                .map_or(0.0, |(at, messages)| rate(now - at, depth.message_count.saturating_sub(messages))),
            consumers: count(depth.consumers),
        }])
    }
}

/// Messages a second.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(over: std::time::Duration, messages: u64) -> f64 {
    if over.is_zero() { 0.0 } else { messages as f64 / over.as_secs_f64() }
}

fn view(row: NodeRow) -> NodeView {
    let state = match (row.dead_at, row.expired) {
        (Some(_), _) => NodeState::Dead,
        (None, true) => NodeState::Late,
        (None, false) => NodeState::Alive,
    };
    NodeView {
        id: row.id,
        name: row.node.name,
        roles: row.node.roles,
        version: row.node.version,
        state,
        started_at: row.started_at,
        lease_until: Some(row.lease_until),
        clock_offset: row.heartbeat.clock_offset,
        running: row.heartbeat.running,
        shards: row.heartbeat.shard_groups,
        config_seq: row.heartbeat.config_seq,
    }
}
