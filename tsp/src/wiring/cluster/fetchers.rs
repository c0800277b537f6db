//! The shard groups that this process owns, each with a fetcher on a thread of its own, its auditor and its retention loop.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::{Clock, Entropy, Millis, Name};
use tsp_fetcher::shard_groups::{LeaseManager, ShardGroupHost};
use tsp_fetcher::{Auditor, Fetcher, FetcherOptions, RetentionLoop, WindowLimits, WindowTotals};
use tsp_queue::nsq::NsqPublisher;
use tsp_queue::{EventRouter, Inbox};
use tsp_store::cluster::ShardGroup;
use tsp_store::fetching::{FetchScope, Owner};
use tsp_store::{Catalog as _, IdSource};
use tsp_store_mysql::MySqlStore;

use super::membership::NodeStats;
use super::state::Cluster;
use crate::settings::Settings;
use crate::wiring::clock::millis;
use crate::wiring::dependencies::ProcessDependencies;

/// Less than half of what one worker holds by default: a config whose receiver hangs must leave room in the pipe
/// for all others.
const IN_PIPE_PER_CONFIG: usize = 512;
const PUBLISH_TICK: Millis = Millis::from_ms(2);

pub(super) struct Fetchers {
    store: MySqlStore,
    publisher: Arc<NsqPublisher>,
    queue: Name,
    event_router: Arc<EventRouter>,
    ids: IdSource,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    options: FetcherOptions,
    totals: Arc<WindowTotals>,
    stats: Arc<NodeStats>,
    runtime: Handle,
    running: Mutex<HashMap<ShardGroup, RunningShardGroup>>,
    /// Told of fetchers that end by themselves; it hands the shard groups out, so it comes second.
    lease_manager: OnceLock<Weak<LeaseManager>>,
}

struct RunningShardGroup {
    inbox: Arc<Inbox>,
    stop: CancellationToken,
    beside: TaskTracker,
    /// Fires, or is dropped, when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl fmt::Debug for Fetchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetchers").finish_non_exhaustive()
    }
}

impl Fetchers {
    pub(super) fn new(deps: &ProcessDependencies, cluster: &Cluster, settings: &Settings) -> Self {
        let options = FetcherOptions {
            lookahead: millis(settings.fetcher.lookahead),
            resync: millis(settings.fetcher.resync),
            publish_tick: PUBLISH_TICK,
            window: WindowLimits { in_pipe_per_config: IN_PIPE_PER_CONFIG, ..WindowLimits::default() },
            ..FetcherOptions::default()
        };
        Self {
            store: cluster.store.clone(),
            publisher: cluster.publisher.clone(),
            queue: deps.queue_name.clone(),
            event_router: cluster.event_router.clone(),
            ids: deps.ids.clone().unwrap_or_else(IdSource::none),
            entropy: deps.entropy.clone(),
            clock: deps.clock(),
            options,
            totals: Arc::default(),
            stats: cluster.membership.stats.clone(),
            runtime: Handle::current(),
            running: Mutex::default(),
            lease_manager: OnceLock::new(),
        }
    }

    pub(super) fn set_lease_manager(&self, lease_manager: &Arc<LeaseManager>) {
        // Called once, where both are made.
        let _ = self.lease_manager.set(Arc::downgrade(lease_manager));
    }

    fn count(&self) {
        let shard_groups = i64::try_from(self.running.lock().len()).unwrap_or(i64::MAX);
        self.stats.shard_groups.store(shard_groups, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a gauge; shard groups stay far below 2^52")]
        metrics::gauge!("tsp_shard_leases").set(shard_groups as f64);
    }
}

#[async_trait]
impl ShardGroupHost for Fetchers {
    fn start(&self, shard_group: &ShardGroup, owner: Owner) {
        let (stop, beside, inbox) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Inbox::new()));
        let fetcher_store = Arc::new(self.store.fetcher_store(shard_group.clone()));
        let deps = tsp_fetcher::FetcherDependencies {
            store: fetcher_store.clone(),
            config_cache: self.store.config_cache().clone(),
            shards: self.store.shards(),
            publisher: self.publisher.clone(),
            queue: self.queue.clone(),
            inbox: inbox.clone(),
            ids: self.ids.clone(),
            entropy: self.entropy.clone(),
            owner,
            totals: self.totals.clone(),
        };
        let fetcher = Fetcher::new(deps, self.options.clone());
        let auditor = Auditor::new(
            fetcher_store.clone(),
            FetchScope::ShardGroup(shard_group.clone()),
            self.store.config_cache().clone(),
            self.store.shards(),
            fetcher.holds(),
        );
        let handle = self.runtime.clone();
        beside.spawn_on(auditor.run(self.clock.clone(), stop.clone()), &handle);
        beside.spawn_on(RetentionLoop::new(fetcher_store).run(self.clock.clone(), stop.clone()), &handle);
        self.event_router.register(shard_group.group.clone(), shard_group.shard, inbox.clone());

        let (tell, ended) = oneshot::channel();
        let (clock, lease_manager, own) =
            (self.clock.clone(), self.lease_manager.get().cloned(), shard_group.clone());
        let name = format!("tsp-f-{}-{}", shard_group.shard.get(), shard_group.group);
        let thread = thread::Builder::new().name(name).spawn(move || {
            tsp_fetcher::run(fetcher, &clock, &handle);
            if let Some(lease_manager) = lease_manager.and_then(|lease_manager| lease_manager.upgrade()) {
                lease_manager.ended(&own, owner);
            }
            // Nobody listens any more only when the process is ending.
            let _ = tell.send(());
        });
        if let Err(error) = thread {
            tracing::error!(%error, shard = shard_group.shard.get(), "cannot start a fetcher's thread");
            if let Some(lease_manager) = self.lease_manager.get().and_then(Weak::upgrade) {
                lease_manager.ended(shard_group, owner);
            }
        }
        self.running.lock().insert(shard_group.clone(), RunningShardGroup { inbox, stop, beside, ended });
        self.count();
        tracing::info!(shard = shard_group.shard.get(), group = %shard_group.group, epoch = owner.epoch, "took a shard");
    }

    async fn stop(&self, shard_group: &ShardGroup) {
        let Some(running) = self.running.lock().remove(shard_group) else { return };
        self.event_router.unregister(&shard_group.group, shard_group.shard);
        running.inbox.stop();
        running.stop.cancel();
        let _ = running.ended.await;
        running.beside.close();
        running.beside.wait().await;
        self.count();
        tracing::info!(shard = shard_group.shard.get(), group = %shard_group.group, "left a shard");
    }
}
