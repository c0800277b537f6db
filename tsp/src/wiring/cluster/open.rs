//! Joining the cluster.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::{Clock as _, ClusterClock, Entropy, Name};
use tsp_queue::EventRouter;
use tsp_queue::nsq::{KnownNsqds, NsqFeedback, NsqHints, NsqPublisher, NsqSubscriber};
use tsp_store::{Catalog as _, IdSource};

use super::membership::Membership;
use super::queue;
use super::state::Cluster;
use super::store::open_store;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::wiring::clock::ServerClock;
use crate::wiring::dependencies::{DeploymentMode, ProcessDependencies};
use crate::wiring::entropy::OsEntropy;
use crate::wiring::node_name::node_name;
use crate::wiring::readiness::Phase;
use crate::wiring::store_failure;

/// `clock` and `nsqds` go on from one life of the process to the next.
pub(in crate::wiring) async fn open(
    settings: &Settings,
    clock: Arc<ClusterClock>,
    nsqds: &KnownNsqds,
    queue_name: Name,
) -> Result<ProcessDependencies> {
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let store = open_store(settings).await?;
    let membership = Membership::join(settings, &store, clock.clone()).await?;
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let name = format!("{}-{}", node_name(settings), membership.node);
    let nsq = queue::connect(settings, &name, nsqds, &entropy, (&tracker, &stop))?;
    let event_router = Arc::new(EventRouter::new());
    let (wake, lost) = (event_router.clone(), event_router.clone());
    let publisher =
        NsqPublisher::start(&nsq, Arc::new(move || wake.wake_all()), Arc::new(move || lost.pipe_lost_all()));
    let publisher = Arc::new(publisher);
    let group_of = queue::group_of(store.config_cache());
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
    Ok(ProcessDependencies {
        pipelines: subscriber
            .as_ref()
            .map(|whole| queue::pipelines(whole, &store, settings, &membership.lease))
            .unwrap_or_default(),
        store: Arc::new(store.clone()),
        clock: ServerClock::Cluster(clock),
        entropy,
        ids,
        id_slots: Arc::new(store.clone()),
        node: membership.node,
        lease: membership.lease.clone(),
        hints: Arc::new(queue::GroupHints { hints: NsqHints::start(&nsq), group_of }),
        feedback,
        queue_name,
        sent: Arc::default(),
        running: membership.stats.running.clone(),
        readiness: Arc::new(Phase::default()),
        mode: DeploymentMode::Cluster(Box::new(Cluster {
            store,
            nsq,
            event_router,
            publisher,
            subscriber,
            membership,
            tracker,
            stop,
        })),
    })
}
