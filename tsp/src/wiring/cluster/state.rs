//! What a process of a cluster has beside the common parts.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_queue::EventRouter;
use tsp_queue::nsq::{NsqContext, NsqPublisher, NsqSubscriber};
use tsp_store::cluster::LeaseStore as _;
use tsp_store_mysql::MySqlStore;

use super::membership::Membership;

pub(in crate::wiring) struct Cluster {
    pub(in crate::wiring) store: MySqlStore,
    pub(in crate::wiring) nsq: Arc<NsqContext>,
    /// Of the shard groups that this process owns.
    pub(in crate::wiring) event_router: Arc<EventRouter>,
    pub(in crate::wiring) publisher: Arc<NsqPublisher>,
    /// Of a worker.
    pub(in crate::wiring) subscriber: Option<Arc<NsqSubscriber>>,
    pub(in crate::wiring) membership: Membership,
    /// What the queue does beside the roles; ends last.
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Cluster {
    /// The last thing a process does: its lease ends at once, so that nobody waits for it.
    pub(in crate::wiring) async fn close(&self) {
        if let Err(error) = self.store.leave(self.membership.node).await {
            tracing::warn!(%error, "could not end the lease; the others wait until it expires");
        }
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.store.close().await;
    }
}
