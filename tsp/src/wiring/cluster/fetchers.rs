//! The pairs that this process owns, each with a fetcher on a thread of its own, its auditor and its janitor.

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
use tsp_fetcher::pairs::{PairHost, PairKeeper};
use tsp_fetcher::{Auditor, Fetcher, FetcherOptions, Janitor, WindowLimits, WindowTotals};
use tsp_queue::nsq::NsqPublisher;
use tsp_queue::{Inbox, Switchboard};
use tsp_store::cluster::Pair;
use tsp_store::mysql::MySqlStore;
use tsp_store::schedule::Owner;
use tsp_store::{Catalog as _, IdSource};

use super::membership::Figures;
use super::state::Cluster;
use crate::settings::Settings;
use crate::wiring::clock::millis;
use crate::wiring::parts::Parts;

/// Less than half of what one worker holds by default: a config whose receiver hangs must leave room in the pipe
/// for all others.
const IN_PIPE_PER_CONFIG: usize = 512;
const PUBLISH_TICK: Millis = Millis::from_ms(2);

pub(super) struct Fetchers {
    store: MySqlStore,
    publisher: Arc<NsqPublisher>,
    queue: Name,
    switchboard: Arc<Switchboard>,
    ids: IdSource,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    options: FetcherOptions,
    totals: Arc<WindowTotals>,
    figures: Arc<Figures>,
    runtime: Handle,
    running: Mutex<HashMap<Pair, RunningPair>>,
    /// Told of fetchers that end by themselves; it hands the pairs out, so it comes second.
    keeper: OnceLock<Weak<PairKeeper>>,
}

struct RunningPair {
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
    pub(super) fn new(parts: &Parts, cluster: &Cluster, settings: &Settings) -> Self {
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
            queue: parts.queue_name.clone(),
            switchboard: cluster.switchboard.clone(),
            ids: parts.ids.clone().unwrap_or_else(IdSource::none),
            entropy: parts.entropy.clone(),
            clock: parts.clock(),
            options,
            totals: Arc::default(),
            figures: cluster.membership.figures.clone(),
            runtime: Handle::current(),
            running: Mutex::default(),
            keeper: OnceLock::new(),
        }
    }

    pub(super) fn set_keeper(&self, keeper: &Arc<PairKeeper>) {
        // Called once, where both are made.
        let _ = self.keeper.set(Arc::downgrade(keeper));
    }

    fn count(&self) {
        let pairs = i64::try_from(self.running.lock().len()).unwrap_or(i64::MAX);
        self.figures.pairs.store(pairs, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a gauge; pairs stay far below 2^52")]
        metrics::gauge!("tsp_shard_leases").set(pairs as f64);
    }
}

#[async_trait]
impl PairHost for Fetchers {
    fn start(&self, pair: &Pair, owner: Owner) {
        let (stop, beside, inbox) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Inbox::new()));
        let scheduler = Arc::new(self.store.scheduler(pair.clone()));
        let parts = tsp_fetcher::Parts {
            store: scheduler.clone(),
            book: self.store.book().clone(),
            shards: self.store.shards(),
            publisher: self.publisher.clone(),
            queue: self.queue.clone(),
            inbox: inbox.clone(),
            ids: self.ids.clone(),
            entropy: self.entropy.clone(),
            owner,
            totals: self.totals.clone(),
        };
        let fetcher = Fetcher::new(parts, self.options.clone());
        let auditor =
            Auditor::new(scheduler.clone(), self.store.book().clone(), self.store.shards(), fetcher.holds());
        let handle = self.runtime.clone();
        beside.spawn_on(auditor.run(self.clock.clone(), stop.clone()), &handle);
        beside.spawn_on(Janitor::new(scheduler).run(self.clock.clone(), stop.clone()), &handle);
        self.switchboard.register(pair.group.clone(), pair.shard, inbox.clone());

        let (tell, ended) = oneshot::channel();
        let (clock, keeper, own) = (self.clock.clone(), self.keeper.get().cloned(), pair.clone());
        let name = format!("tsp-f-{}-{}", pair.shard.get(), pair.group);
        let thread = thread::Builder::new().name(name).spawn(move || {
            tsp_fetcher::run(fetcher, &clock, &handle);
            if let Some(keeper) = keeper.and_then(|keeper| keeper.upgrade()) {
                keeper.ended(&own, owner);
            }
            // Nobody listens any more only when the process is ending.
            let _ = tell.send(());
        });
        if let Err(error) = thread {
            tracing::error!(%error, shard = pair.shard.get(), "cannot start a fetcher's thread");
            if let Some(keeper) = self.keeper.get().and_then(Weak::upgrade) {
                keeper.ended(pair, owner);
            }
        }
        self.running.lock().insert(pair.clone(), RunningPair { inbox, stop, beside, ended });
        self.count();
        tracing::info!(shard = pair.shard.get(), group = %pair.group, epoch = owner.epoch, "took a shard");
    }

    async fn stop(&self, pair: &Pair) {
        let Some(running) = self.running.lock().remove(pair) else { return };
        self.switchboard.unregister(&pair.group, pair.shard);
        running.inbox.stop();
        running.stop.cancel();
        let _ = running.ended.await;
        running.beside.close();
        running.beside.wait().await;
        self.count();
        tracing::info!(shard = pair.shard.get(), group = %pair.group, "left a shard");
    }
}
