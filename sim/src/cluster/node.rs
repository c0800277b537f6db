//! A process of a cluster, as far as it is the real thing: member, pair keeper, fetcher and the loops of the worker.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, join};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tsp_consumer_core::{Pipeline, Worker, WorkerOptions};
use tsp_core::{Clock, ClusterClock, Millis, Monotonic, Name};
use tsp_fetcher::pairs::{KeeperParts, PairHost, PairKeeper, Serves};
use tsp_fetcher::{Fetcher, FetcherOptions, Parts};
use tsp_queue::Inbox;
use tsp_store::cluster::{Beat, Member, MemberOptions, NewNode, Pair};
use tsp_store::schedule::Owner;
use tsp_store::{ConfigBook, IdSource, WholeStore};
use tsp_worker::DirectTaskService;

use super::callee::Callee;
use super::link::Link;
use super::people::person;
use super::view::View;
use super::{Ground, LEASE, group, pass};
use crate::door::Door;
use crate::faults::FaultyPipe;
use crate::weather::Weather;

/// A fetcher that has nothing to do looks for news so often.
const LOOK_EVERY: Millis = Millis::from_ms(25);
const RENEW_IDS_EVERY: Millis = Millis::from_secs(20);
const JOIN_AGAIN_AFTER: Millis = Millis::from_ms(500);

/// One that joins anew whenever it is lost.
pub(super) async fn live(ground: Arc<Ground>, weather: Arc<Weather>, time: Arc<dyn Monotonic>) {
    let clock = Arc::new(ClusterClock::new(time));
    loop {
        let book = Arc::new(ConfigBook::default());
        if let Some(member) = join_cluster(&ground, &weather, &clock, book.clone()).await {
            be_member(&ground, &weather, &clock, book, member).await;
        }
        pass(JOIN_AGAIN_AFTER).await;
    }
}

async fn join_cluster(
    ground: &Arc<Ground>,
    weather: &Arc<Weather>,
    clock: &Arc<ClusterClock>,
    book: Arc<ConfigBook>,
) -> Option<Member> {
    let roles = Serves::All.to_roles();
    let new = NewNode { name: "sim".to_owned(), roles, version: String::new(), address: None };
    let options =
        MemberOptions { lease: LEASE, max_skew: Millis::from_ms(500), id_slot: true, watches: true };
    let link = Arc::new(Link { leases: ground.leases.clone(), weather: weather.clone() });
    let beat = move || Beat { config_seq: book.settled(), ..Beat::default() };
    Member::join(link, clock.clone(), new, Arc::new(beat), options).await.ok()
}

/// What a life of a process works with.
struct Life {
    ground: Arc<Ground>,
    clock: Arc<ClusterClock>,
    door: Arc<dyn WholeStore>,
    ids: IdSource,
}

async fn be_member(
    ground: &Arc<Ground>,
    weather: &Arc<Weather>,
    clock: &Arc<ClusterClock>,
    book: Arc<ConfigBook>,
    mut member: Member,
) {
    let view = View {
        rows: ground.store.beside(book.clone()),
        ground: ground.clone(),
        lease: member.lease().clone(),
        clock: clock.clone(),
    };
    let door: Arc<dyn WholeStore> = Arc::new(Door { inner: Arc::new(view), weather: weather.clone() });
    // After its row is there: before that nobody waited for it.
    let (Ok(()), Some(slot)) = (door.refresh().await, member.id_slot()) else { return };
    let Ok(ids) = IdSource::lease(&*door, slot, clock.now()).await else { return };
    let life =
        Arc::new(Life { ground: ground.clone(), clock: clock.clone(), door: door.clone(), ids: ids.clone() });
    let host = Arc::new(Host { life: life.clone(), running: Mutex::default(), keeper: OnceLock::new() });
    let keeper = Arc::new(PairKeeper::new(KeeperParts {
        store: Arc::new(Link { leases: ground.leases.clone(), weather: weather.clone() }),
        host: host.clone(),
        time: clock.time().clone(),
        peers: member.peers().expect("it watches"),
        node: member.node(),
        serves: Serves::All,
        groups: Arc::new(|| vec![group()]),
        lease: LEASE,
    }));
    host.keeper.set(Arc::downgrade(&keeper)).expect("set once");
    let stop = CancellationToken::new();
    let worker = worker(&life, &member).run(stop.clone());
    let people = stop.run_until_cancelled(person(ground, &door, &ids, clock));
    let rest = async {
        keep(&life, &mut member, &keeper, &book).await;
        stop.cancel();
        host.running.lock().clear();
    };
    join!(worker, people, rest);
    // What fails is left to those who bury it.
    let _ = member.leave().await;
}

/// Renews, watches, follows, until the node is lost.
async fn keep(life: &Life, member: &mut Member, keeper: &PairKeeper, book: &ConfigBook) {
    let mut renew_ids_at = life.clock.now().plus(RENEW_IDS_EVERY);
    loop {
        let report = member.step(life.clock.moment()).await;
        if report.lost().is_some() {
            return;
        }
        if report.config_seq.is_some_and(|seq| seq > book.seq()) {
            // What fails is tried with the next renewal.
            let _ = life.door.refresh().await;
            let inboxes = life.ground.inboxes();
            for config in book.all_configs() {
                for inbox in &inboxes {
                    inbox.changed(config.id);
                }
            }
        }
        keeper.step(life.clock.moment()).await;
        if life.clock.now() >= renew_ids_at {
            match life.ids.renew(&*life.door, life.clock.now()).await {
                Err(tsp_store::StoreError::Unusable(_)) => return,
                _ => renew_ids_at = life.clock.now().plus(RENEW_IDS_EVERY),
            }
        }
        pass(Millis::from_ms(LEASE.ms() / 10)).await;
    }
}

fn worker(life: &Arc<Life>, member: &Member) -> Worker {
    let (ground, sizes) = (&life.ground, life.ground.plan.sizes);
    let book = life.door.book().clone();
    let service = DirectTaskService::new(life.door.clone(), book, member.node(), member.lease().clone());
    let subscriber = Arc::new(ground.queue.subscribe(&Name::lane()).expect("it was made"));
    let (feedback, clock) = (ground.clone(), life.clock.clone());
    let pipeline =
        Pipeline::new(Arc::new(service), subscriber, feedback, clock.clone(), ground.chance.clone());
    let handler = Arc::new(Callee { ground: ground.clone(), clock });
    let options = WorkerOptions {
        concurrency: sizes.lanes.0.max(2),
        per_config: sizes.lanes.1.max(2),
        batch: sizes.batch,
        finish_wait: Duration::from_millis(15),
        shutdown_grace: Duration::from_secs(2),
    };
    Worker::new(pipeline, handler, options)
}

/// Runs the fetcher of the pair as long as this node owns it.
struct Host {
    life: Arc<Life>,
    running: Mutex<BTreeMap<Pair, JoinSet<()>>>,
    keeper: OnceLock<Weak<PairKeeper>>,
}

#[async_trait]
impl PairHost for Host {
    fn start(&self, pair: &Pair, owner: Owner) {
        let (life, keeper, own) = (self.life.clone(), self.keeper.get().cloned(), pair.clone());
        let now = life.clock.now();
        life.ground.note(now, format!("node {} owns the pair, epoch {}", owner.node, owner.epoch));
        let work = async move {
            let ended = AssertUnwindSafe(fetch(&life, owner)).catch_unwind().await;
            life.ground.watch(|| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            if let Some(keeper) = keeper.and_then(|keeper| keeper.upgrade()) {
                keeper.ended(&own, owner);
            }
        };
        let mut running = JoinSet::new();
        running.spawn(work);
        self.running.lock().insert(pair.clone(), running);
    }

    async fn stop(&self, pair: &Pair) {
        let running = self.running.lock().remove(pair);
        if let Some(mut running) = running {
            // Wherever it is.
            running.shutdown().await;
        }
    }
}

async fn fetch(life: &Life, owner: Owner) {
    let inbox = Arc::new(Inbox::new());
    life.ground.add_inbox(&inbox);
    let publisher = FaultyPipe {
        queue: life.ground.queue.clone(),
        chance: life.ground.chance.clone(),
        lose_per_mille: life.ground.plan.lose_per_mille,
        double_per_mille: life.ground.plan.double_per_mille,
    };
    let parts = Parts {
        store: life.door.clone(),
        book: life.door.book().clone(),
        shards: life.door.shards(),
        publisher: Arc::new(publisher),
        queue: Name::lane(),
        inbox,
        ids: life.ids.clone(),
        entropy: life.ground.chance.clone(),
        owner,
        totals: Arc::default(),
    };
    let sizes = life.ground.plan.sizes;
    let options = FetcherOptions {
        pipe_timeout: sizes.pipe_timeout,
        lookahead: sizes.lookahead,
        window: sizes.window,
        ..FetcherOptions::default()
    };
    let mut fetcher = Fetcher::new(parts, options);
    loop {
        let wait = match fetcher.step(life.clock.now()).await {
            Ok(report) if report.deposed => return,
            Ok(report) => report.next.since(life.clock.now()).clamp(Millis::from_ms(1), LOOK_EVERY),
            Err(_) => Millis::from_ms(200),
        };
        pass(wait).await;
    }
}
