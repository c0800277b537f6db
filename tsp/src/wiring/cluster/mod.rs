//! The cluster's shape: sharded MySQL or MariaDB, NSQ, and any number of processes with some of the roles.
//!
//! * `store`, `queue`: the back ends. `membership`: this process among the others. `fetchers`: the pairs that it
//!   owns. `running`: all of it together.

mod fetchers;
mod membership;
mod queue;
mod running;
mod store;
mod topology;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::{Clock as _, ClusterClock, Entropy, Name};
use tsp_queue::Switchboard;
use tsp_queue::nsq::{Nsq, NsqFeedback, NsqHints, NsqPublisher, NsqSubscriber};
use tsp_store::cluster::LeaseStore;
use tsp_store::mysql::MySqlStore;
use tsp_store::{Catalog as _, IdSource};
use tsp_web::Topology;

use super::clock::ServerClock;
use super::entropy::OsEntropy;
use super::hints::Phase;
use super::parts::{Parts, Shape, node_name};
use super::store_failure;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use membership::Membership;
pub(super) use running::RunningCluster;
pub(crate) use store::{migrate, open_store, options};

pub(super) struct Cluster {
    pub(super) store: MySqlStore,
    pub(super) nsq: Arc<Nsq>,
    /// Of the pairs that this process owns.
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) publisher: Arc<NsqPublisher>,
    /// Of a worker.
    pub(super) subscriber: Option<Arc<NsqSubscriber>>,
    pub(super) membership: Membership,
    /// What the queue does beside the roles; ends last.
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// Joins the cluster. `clock` goes on from one life of the process to the next.
pub(super) async fn open(settings: &Settings, clock: Arc<ClusterClock>, queue_name: Name) -> Result<Parts> {
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let store = open_store(settings).await?;
    let membership = Membership::join(settings, &store, clock.clone()).await?;
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let name = format!("{}-{}", node_name(settings), membership.node);
    let nsq = queue::connect(settings, &name, &entropy, &tracker, &stop)?;
    let switchboard = Arc::new(Switchboard::new());
    let (wake, lost) = (switchboard.clone(), switchboard.clone());
    let publisher =
        NsqPublisher::start(&nsq, Arc::new(move || wake.nudge_all()), Arc::new(move || lost.pipe_lost_all()));
    let publisher = Arc::new(publisher);
    let group_of = queue::group_of(store.book());
    let subscriber = if settings.node.roles.worker {
        let most = queue::max_in_flight(settings.worker.concurrency);
        let subscriber = NsqSubscriber::start(&nsq, &queue_name, most);
        Some(Arc::new(subscriber.map_err(|error| Failure::usage(error.to_string()))?))
    } else {
        None
    };
    let ids = match membership.id_slot {
        Some(slot) => {
            Some(IdSource::lease(&store, slot, clock.now()).await.map_err(|error| store_failure(&error))?)
        }
        None => None,
    };
    let feedback = Arc::new(NsqFeedback::start(&nsq, group_of.clone()));
    Ok(Parts {
        lines: subscriber
            .as_ref()
            .map(|whole| queue::lines(whole, &store, settings, &membership.lease))
            .unwrap_or_default(),
        store: Arc::new(store.clone()),
        clock: ServerClock::Cluster(clock),
        entropy,
        ids,
        node: membership.node,
        lease: membership.lease.clone(),
        hints: Arc::new(queue::GroupHints { hints: NsqHints::start(&nsq), group_of }),
        feedback,
        queue_name,
        sent: Arc::default(),
        running: membership.figures.running.clone(),
        readiness: Arc::new(Phase::default()),
        shape: Shape::Cluster(Box::new(Cluster {
            store,
            nsq,
            switchboard,
            publisher,
            subscriber,
            membership,
            tracker,
            stop,
        })),
    })
}

impl Cluster {
    pub(super) fn topology(&self, parts: &Parts) -> impl Topology + use<> {
        topology::ClusterTopology {
            store: self.store.clone(),
            clock: parts.clock(),
            publisher: self.publisher.clone(),
            queue: parts.queue_name.clone(),
            groups: running::groups_of(parts.book().clone()),
            seen: Mutex::default(),
        }
    }

    /// The last thing a process does: its lease ends at once, so that nobody waits for it.
    pub(super) async fn close(&self) {
        if let Err(error) = self.store.leave(self.membership.node).await {
            tracing::warn!(%error, "could not end the lease; the others wait until it is over");
        }
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.store.close().await;
    }
}
