//! What a process of a cluster does beside its roles, and the role `fetcher`, whose shard groups come and go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::Name;
use tsp_fetcher::shard_groups::{GroupSource, LeaseManager, LeaseManagerDependencies};
use tsp_queue::EventRouter;
use tsp_queue::nsq::{NsqContext, NsqEvents};

use super::fetchers::Fetchers;
use super::groups::{groups_of, serves};
use super::state::Cluster;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::wiring::clock::{ServerClock, millis};
use crate::wiring::dependencies::ProcessDependencies;
use crate::wiring::gauges::DepthGauges;

/// How often it is seen whether there is a new group: one comparison of a number.
const GROUPS_EVERY: Duration = Duration::from_secs(1);
/// How often each nsqd is asked for the depth of the queue.
const DEPTH_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(in crate::wiring) struct RunningCluster {
    /// Fires, or is dropped, when the node is lost.
    lost: oneshot::Receiver<()>,
    stop: CancellationToken,
    stop_fetching: CancellationToken,
    tracker: TaskTracker,
    fetching: TaskTracker,
}

impl RunningCluster {
    pub(in crate::wiring) fn start(
        deps: &ProcessDependencies,
        cluster: &Cluster,
        settings: &Settings,
    ) -> Result<Self> {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (fetching, stop_fetching) = (TaskTracker::new(), CancellationToken::new());
        if settings.node.roles.fetcher {
            fetch(deps, cluster, settings, &fetching, &stop_fetching)?;
        }
        let (tell, lost) = oneshot::channel();
        let run = cluster.membership.run(cluster.store.clone(), cluster.event_router.clone(), stop.clone());
        tracker.spawn(async move {
            if let Some(why) = run.await {
                tracing::error!(?why, "this node is lost");
            }
            // Nobody listens any more once the server stops.
            let _ = tell.send(());
        });
        Ok(Self { lost, stop, stop_fetching, tracker, fetching })
    }

    /// Returns when this node is lost.
    pub(in crate::wiring) async fn lost(&mut self) {
        let _ = (&mut self.lost).await;
    }

    /// Gives up all shard groups, so that others take them at once.
    pub(in crate::wiring) async fn stop_fetching(&self) {
        self.stop_fetching.cancel();
        self.fetching.close();
        self.fetching.wait().await;
    }

    /// Renews the lease no more. It ends with [`Cluster::close`].
    pub(in crate::wiring) async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Takes this node's share of the shard groups, and listens to the events of their groups.
fn fetch(
    deps: &ProcessDependencies,
    cluster: &Cluster,
    settings: &Settings,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result {
    let ServerClock::Cluster(clock) = &deps.clock else {
        return Err(Failure::failed("a cluster goes by its own clock"));
    };
    let host = Arc::new(Fetchers::new(deps, cluster, settings));
    let groups = groups_of(deps.config_cache().clone());
    let lease_manager = Arc::new(LeaseManager::new(LeaseManagerDependencies {
        store: Arc::new(cluster.store.clone()),
        host: host.clone(),
        time: clock.time().clone(),
        peers: cluster.membership.peers.clone(),
        node: deps.node,
        serves: serves(&settings.fetcher),
        groups: groups.clone(),
        lease: millis(settings.node.lease),
    }));
    host.set_lease_manager(&lease_manager);
    let listener = EventListener {
        nsq: cluster.nsq.clone(),
        event_router: cluster.event_router.clone(),
        node: format!("f{}", deps.node),
        groups,
    };
    keep_depth(&deps.queue_name, &cluster.nsq, tracker, stop);
    let (listening, keeping) = (stop.clone(), stop.clone());
    let (woken, events) = (lease_manager.clone(), listener.open()?);
    tracker.spawn(async move { listener.listen(events, &woken, &listening).await });
    tracker.spawn(async move {
        lease_manager.run(&keeping).await;
        drop(host);
    });
    Ok(())
}

/// The queue belongs to no process: each that fills it tells of it.
fn keep_depth(queue: &Name, nsq: &Arc<NsqContext>, tracker: &TaskTracker, stop: &CancellationToken) {
    let (queue, nsq, stop) = (queue.clone(), nsq.clone(), stop.clone());
    let gauges = DepthGauges::of(&queue);
    tracker.spawn(async move {
        let ask = async {
            loop {
                let depth = nsq.depth(&queue).await;
                gauges.set(depth.depth, depth.in_flight);
                tokio::time::sleep(DEPTH_EVERY).await;
            }
        };
        let _: Option<std::convert::Infallible> = stop.run_until_cancelled(ask).await;
    });
}

/// What listens to the hints and the feedback of all groups, also of those that come later.
struct EventListener {
    nsq: Arc<NsqContext>,
    event_router: Arc<EventRouter>,
    node: String,
    groups: GroupSource,
}

impl EventListener {
    fn open(&self) -> Result<(Vec<Name>, NsqEvents)> {
        let groups = (self.groups)();
        let events = NsqEvents::start(&self.nsq, &groups, &self.node, &self.event_router);
        Ok((groups, events.map_err(|error| Failure::failed(error.to_string()))?))
    }

    async fn listen(
        &self,
        mut open: (Vec<Name>, NsqEvents),
        lease_manager: &LeaseManager,
        stop: &CancellationToken,
    ) {
        while stop.run_until_cancelled(tokio::time::sleep(GROUPS_EVERY)).await.is_some() {
            if (self.groups)() == open.0 {
                continue;
            }
            lease_manager.look_again();
            match self.open() {
                Ok(next) => open = next,
                Err(error) => tracing::warn!(%error, "cannot listen to a new group, will try again"),
            }
        }
    }
}
