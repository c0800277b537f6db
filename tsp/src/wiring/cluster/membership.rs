//! This process among the others: its node, its lease, and the config changes that it has applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tsp_core::{Clock as _, ClusterClock, NodeId};
use tsp_fetcher::shard_groups::FETCHER_ROLE;
use tsp_queue::EventRouter;
use tsp_store::Catalog as _;
use tsp_store::cluster::{Heartbeat, JoinError, LeaseLoss, Member, MemberOptions, NewNode, NodeLease, Peers};
use tsp_store_mysql::MySqlStore;

use super::groups::serves;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::wiring::clock::{machine, millis};
use crate::wiring::node_name::node_name;
use crate::wiring::store_failure;

/// How often the change log is looked at; a change that the renewal tells of is looked for at once.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// What a node says of itself with each renewal.
#[derive(Debug, Default)]
pub(crate) struct NodeStats {
    /// Callbacks running.
    pub(crate) running: Arc<AtomicI64>,
    /// Shard groups owned.
    pub(crate) shard_groups: AtomicI64,
}

pub(crate) struct Membership {
    pub(crate) node: NodeId,
    pub(crate) lease: Arc<NodeLease>,
    pub(crate) id_slot: Option<u8>,
    pub(crate) stats: Arc<NodeStats>,
    pub(crate) peers: Peers,
    /// Until it runs.
    member: Mutex<Option<Member>>,
}

impl Membership {
    pub(super) async fn join(
        settings: &Settings,
        store: &MySqlStore,
        clock: Arc<ClusterClock>,
    ) -> Result<Self> {
        let roles = settings.node.roles;
        let new = NewNode {
            name: node_name(settings),
            roles: node_roles(settings),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: roles.web.then(|| settings.web.listen.to_string()),
        };
        let stats = Arc::new(NodeStats::default());
        let (said, config_cache, cluster) = (stats.clone(), store.config_cache().clone(), clock.clone());
        let machine = machine();
        let heartbeat = Arc::new(move || Heartbeat {
            config_seq: config_cache.finalised(),
            clock_offset: machine.now().since(cluster.now()),
            running: said.running.load(Ordering::Relaxed),
            shard_groups: said.shard_groups.load(Ordering::Relaxed),
        });
        let options = MemberOptions {
            lease: millis(settings.node.lease),
            max_skew: millis(settings.node.max_skew),
            id_slot: roles.web || roles.fetcher,
            watches: true,
        };
        let member = Member::join(Arc::new(store.clone()), clock, new, heartbeat, options).await;
        let member = member.map_err(|error| match error {
            JoinError::Store(error) => store_failure(&error),
            full @ JoinError::NoIdSlot => Failure::failed(full.to_string()),
        })?;
        Ok(Self {
            node: member.node(),
            lease: member.lease().clone(),
            id_slot: member.id_slot(),
            stats,
            peers: member.peers().unwrap_or_default(),
            member: Mutex::new(Some(member)),
        })
    }

    /// Renews the lease and follows the change log until `stop`, or until the node is lost. Events for the
    /// fetchers here go to `event_router`.
    pub(super) fn run(
        &self,
        store: MySqlStore,
        event_router: Arc<EventRouter>,
        stop: CancellationToken,
    ) -> impl Future<Output = Option<LeaseLoss>> + Send + use<> {
        let member = self.member.lock().take();
        async move {
            let mut member = member?;
            let changed = Arc::new(Notify::new());
            let follow = follow(store.clone(), event_router.clone(), changed.clone(), member.wake().clone());
            let config_cache = store.config_cache().clone();
            let renew = member.run(stop.cancelled(), |report| {
                if report.config_seq.is_some_and(|seq| seq > config_cache.seq()) {
                    changed.notify_one();
                }
                if !report.died.is_empty() {
                    tracing::info!(nodes = ?report.died, "nodes are gone; what they ran is searched for");
                    event_router.look_again_all();
                }
            });
            tokio::select! {
                lost = renew => lost,
                never = follow => match never {},
            }
        }
    }
}

/// Applies what other processes changed.
async fn follow(
    store: MySqlStore,
    event_router: Arc<EventRouter>,
    changed: Arc<Notify>,
    applied: Arc<Notify>,
) -> std::convert::Infallible {
    let config_cache = store.config_cache().clone();
    let finalising = config_cache.finalising();
    let (mut reported, mut finalised) = (config_cache.seq(), config_cache.finalised());
    loop {
        if let Err(error) = store.follow().await {
            tracing::debug!(%error, "could not read the config changes, will try again");
        }
        let seq = config_cache.seq();
        if seq != reported {
            for config in config_cache.changed_since(reported) {
                event_router.changed(config.id);
            }
            reported = seq;
        }
        if config_cache.finalised() != finalised {
            finalised = config_cache.finalised();
            // A barrier may wait for it.
            applied.notify_one();
        }
        // One that is early costs one small statement.
        tokio::select! {
            () = changed.notified() => {}
            () = finalising.notified() => {}
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
    }
}

/// A fetcher says which groups it serves.
fn node_roles(settings: &Settings) -> Vec<String> {
    let mut roles: Vec<String> = settings.node.roles.names().into_iter().map(str::to_owned).collect();
    if settings.node.roles.fetcher {
        roles.retain(|role| role != FETCHER_ROLE);
        roles.extend(serves(&settings.fetcher).to_roles());
    }
    roles
}
