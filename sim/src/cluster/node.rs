//! A process of a cluster, as far as it is the real thing: member, lease manager, fetcher, worker loops.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, join};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tsp_consumer_core::{Pipeline, PipelineDependencies, Worker, WorkerOptions};
use tsp_core::{Clock, ClusterClock, Millis, MonotonicClock, Name};
use tsp_fetcher::shard_groups::{LeaseManager, LeaseManagerDependencies, ServingScope, ShardGroupHost};
use tsp_fetcher::{Fetcher, FetcherDependencies, FetcherOptions};
use tsp_queue::Inbox;
use tsp_store::cluster::{Heartbeat, Member, MemberOptions, NewNode, ShardGroup};
use tsp_store::fetching::Owner;
use tsp_store::{ConfigCache, IdSource, WholeStore};

use super::link::Link;
use super::operators::operate;
use super::receiver::ScriptedReceiver;
use super::view::View;
use super::{Environment, LEASE, group, pass};
use crate::faulty_pipe::FaultyPipe;
use crate::faulty_store::FaultyStore;
use crate::weather::Weather;

/// A fetcher that has nothing to do looks for events so often.
const LOOK_EVERY: Millis = Millis::from_ms(25);
const RENEW_IDS_EVERY: Millis = Millis::from_secs(20);
const JOIN_AGAIN_AFTER: Millis = Millis::from_ms(500);

/// One that joins again whenever it is lost.
pub(super) async fn live(
    environment: Arc<Environment>,
    weather: Arc<Weather>,
    time: Arc<dyn MonotonicClock>,
) {
    let clock = Arc::new(ClusterClock::new(time));
    loop {
        let config_cache = Arc::new(ConfigCache::default());
        if let Some(member) = join_cluster(&environment, &weather, &clock, config_cache.clone()).await {
            be_member(&environment, &weather, &clock, config_cache, member).await;
        }
        pass(JOIN_AGAIN_AFTER).await;
    }
}

async fn join_cluster(
    environment: &Arc<Environment>,
    weather: &Arc<Weather>,
    clock: &Arc<ClusterClock>,
    config_cache: Arc<ConfigCache>,
) -> Option<Member> {
    let roles = ServingScope::All.to_roles();
    let new = NewNode { name: "sim".to_owned(), roles, version: String::new(), address: None };
    let options =
        MemberOptions { lease: LEASE, max_skew: Millis::from_ms(500), id_slot: true, watches: true };
    let link = Arc::new(Link { leases: environment.leases.clone(), weather: weather.clone() });
    let heartbeat = move || Heartbeat { config_seq: config_cache.finalised(), ..Heartbeat::default() };
    Member::join(link, clock.clone(), new, Arc::new(heartbeat), options).await.ok()
}

/// What a life of a process works with.
struct Life {
    environment: Arc<Environment>,
    clock: Arc<ClusterClock>,
    faulty_store: Arc<dyn WholeStore>,
    ids: IdSource,
}

async fn be_member(
    environment: &Arc<Environment>,
    weather: &Arc<Weather>,
    clock: &Arc<ClusterClock>,
    config_cache: Arc<ConfigCache>,
    mut member: Member,
) {
    let view = View {
        rows: environment.store.beside(config_cache.clone()),
        environment: environment.clone(),
        lease: member.lease().clone(),
        clock: clock.clone(),
    };
    let faulty_store: Arc<dyn WholeStore> =
        Arc::new(FaultyStore { inner: Arc::new(view), weather: weather.clone() });
    // After its row is there: before that nobody waited for it.
    let (Ok(()), Some(slot)) = (faulty_store.refresh().await, member.id_slot()) else { return };
    let Ok(ids) = IdSource::lease(&*faulty_store, slot, clock.now()).await else { return };
    let life = Arc::new(Life {
        environment: environment.clone(),
        clock: clock.clone(),
        faulty_store: faulty_store.clone(),
        ids: ids.clone(),
    });
    let host =
        Arc::new(Host { life: life.clone(), running: Mutex::default(), lease_manager: OnceLock::new() });
    let lease_manager = Arc::new(LeaseManager::new(LeaseManagerDependencies {
        store: Arc::new(Link { leases: environment.leases.clone(), weather: weather.clone() }),
        host: host.clone(),
        time: clock.time().clone(),
        peers: member.peers().expect("it watches"),
        node: member.node(),
        serves: ServingScope::All,
        groups: Arc::new(|| vec![group()]),
        lease: LEASE,
    }));
    host.lease_manager.set(Arc::downgrade(&lease_manager)).expect("set once");
    let stop = CancellationToken::new();
    let worker = worker(&life, &member).run(stop.clone());
    let operators = stop.run_until_cancelled(operate(environment, &faulty_store, &ids, clock));
    let rest = async {
        keep(&life, &mut member, &lease_manager, &config_cache).await;
        stop.cancel();
        host.running.lock().clear();
    };
    join!(worker, operators, rest);
    // What fails is left to those who mark it dead.
    let _ = member.leave().await;
}

/// Renews, watches, follows, until the node is lost.
async fn keep(life: &Life, member: &mut Member, lease_manager: &LeaseManager, config_cache: &ConfigCache) {
    let mut renew_ids_at = life.clock.now().plus(RENEW_IDS_EVERY);
    loop {
        let report = member.step(life.clock.instant()).await;
        if report.lost().is_some() {
            return;
        }
        if report.config_seq.is_some_and(|seq| seq > config_cache.seq()) {
            // What fails is tried with the next renewal.
            let _ = life.faulty_store.refresh().await;
            let inboxes = life.environment.inboxes();
            for config in config_cache.all_configs() {
                for inbox in &inboxes {
                    inbox.changed(config.id);
                }
            }
        }
        lease_manager.step(life.clock.instant()).await;
        if life.clock.now() >= renew_ids_at {
            match life.ids.renew(&*life.faulty_store, life.clock.now()).await {
                Err(tsp_store::StoreError::Unusable(_)) => return,
                _ => renew_ids_at = life.clock.now().plus(RENEW_IDS_EVERY),
            }
        }
        pass(Millis::from_ms(LEASE.ms() / 10)).await;
    }
}

fn worker(life: &Arc<Life>, member: &Member) -> Worker {
    let (environment, sizes) = (&life.environment, life.environment.plan.sizes);
    let pipeline = Pipeline::new(PipelineDependencies {
        store: life.faulty_store.clone(),
        node: member.node(),
        lease: member.lease().clone(),
        configs: life.faulty_store.config_cache().clone(),
        subscriber: Arc::new(environment.queue.subscribe(&Name::default_name()).expect("it was made")),
        feedback: environment.clone(),
        clock: life.clock.clone(),
        entropy: environment.rng.clone(),
    });
    let handler = Arc::new(ScriptedReceiver { environment: environment.clone(), clock: life.clock.clone() });
    let options = WorkerOptions {
        concurrency: sizes.permits.0.max(2),
        per_config: sizes.permits.1.max(2),
        batch: sizes.batch,
        finish_wait: Duration::from_millis(15),
        shutdown_grace: Duration::from_secs(2),
    };
    Worker::new(pipeline, handler, options)
}

/// Runs the fetcher of the shard group as long as this node owns it.
struct Host {
    life: Arc<Life>,
    running: Mutex<BTreeMap<ShardGroup, JoinSet<()>>>,
    lease_manager: OnceLock<Weak<LeaseManager>>,
}

#[async_trait]
impl ShardGroupHost for Host {
    fn start(&self, shard_group: &ShardGroup, owner: Owner) {
        let (life, lease_manager, own) =
            (self.life.clone(), self.lease_manager.get().cloned(), shard_group.clone());
        let now = life.clock.now();
        life.environment.note(now, format!("node {} owns the pair, epoch {}", owner.node, owner.epoch));
        let work = async move {
            let ended = AssertUnwindSafe(fetch(&life, owner)).catch_unwind().await;
            life.environment.watch(|| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            if let Some(lease_manager) = lease_manager.and_then(|lease_manager| lease_manager.upgrade()) {
                lease_manager.ended(&own, owner);
            }
        };
        let mut running = JoinSet::new();
        running.spawn(work);
        self.running.lock().insert(shard_group.clone(), running);
    }

    async fn stop(&self, shard_group: &ShardGroup) {
        let running = self.running.lock().remove(shard_group);
        if let Some(mut running) = running {
            // Wherever it is.
            running.shutdown().await;
        }
    }
}

async fn fetch(life: &Life, owner: Owner) {
    let inbox = Arc::new(Inbox::new());
    life.environment.add_inbox(&inbox);
    let publisher = FaultyPipe {
        queue: life.environment.queue.clone(),
        rng: life.environment.rng.clone(),
        lose_per_mille: life.environment.plan.lose_per_mille,
        double_per_mille: life.environment.plan.double_per_mille,
    };
    let deps = FetcherDependencies {
        store: life.faulty_store.clone(),
        config_cache: life.faulty_store.config_cache().clone(),
        shards: life.faulty_store.shards(),
        publisher: Arc::new(publisher),
        queue: Name::default_name(),
        inbox,
        ids: life.ids.clone(),
        entropy: life.environment.rng.clone(),
        owner,
        totals: Arc::default(),
    };
    let sizes = life.environment.plan.sizes;
    let options = FetcherOptions {
        pipe_timeout: sizes.pipe_timeout,
        lookahead: sizes.lookahead,
        window: sizes.window,
        ..FetcherOptions::default()
    };
    let mut fetcher = Fetcher::new(deps, options);
    loop {
        let wait = match fetcher.step(life.clock.now()).await {
            Ok(report) if report.deposed => return,
            Ok(report) => report.next.since(life.clock.now()).clamp(Millis::from_ms(1), LOOK_EVERY),
            Err(_) => Millis::from_ms(200),
        };
        pass(wait).await;
    }
}
