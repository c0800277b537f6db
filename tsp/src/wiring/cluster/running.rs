//! What a process of a cluster does beside its roles, and the role `fetcher`, whose pairs come and go.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::Name;
use tsp_fetcher::pairs::{GroupSource, KeeperParts, PairKeeper};
use tsp_queue::Switchboard;
use tsp_queue::nsq::{Nsq, NsqNews};

use super::fetchers::Fetchers;
use super::groups::{groups_of, serves};
use super::state::Cluster;
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::wiring::clock::{ServerClock, millis};
use crate::wiring::parts::Parts;

/// How often it is seen whether there is a new group: one comparison of a number.
const GROUPS_EVERY: Duration = Duration::from_secs(1);

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
    pub(in crate::wiring) fn start(parts: &Parts, cluster: &Cluster, settings: &Settings) -> Result<Self> {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let (fetching, stop_fetching) = (TaskTracker::new(), CancellationToken::new());
        if settings.node.roles.fetcher {
            fetch(parts, cluster, settings, &fetching, &stop_fetching)?;
        }
        let (tell, lost) = oneshot::channel();
        let run = cluster.membership.run(cluster.store.clone(), cluster.switchboard.clone(), stop.clone());
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

    /// Gives up all pairs, so that others take them at once.
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

/// Takes this node's share of the pairs, and listens to what is told to their groups.
fn fetch(
    parts: &Parts,
    cluster: &Cluster,
    settings: &Settings,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result {
    let ServerClock::Cluster(clock) = &parts.clock else {
        return Err(Failure::failed("a cluster goes by its own clock"));
    };
    let host = Arc::new(Fetchers::new(parts, cluster, settings));
    let groups = groups_of(parts.book().clone());
    let keeper = Arc::new(PairKeeper::new(KeeperParts {
        store: Arc::new(cluster.store.clone()),
        host: host.clone(),
        time: clock.time().clone(),
        peers: cluster.membership.peers.clone(),
        node: parts.node,
        serves: serves(&settings.fetcher),
        groups: groups.clone(),
        lease: millis(settings.node.lease),
    }));
    host.set_keeper(&keeper);
    let ears = Ears {
        nsq: cluster.nsq.clone(),
        board: cluster.switchboard.clone(),
        node: format!("f{}", parts.node),
        groups,
    };
    let (listening, keeping) = (stop.clone(), stop.clone());
    let (woken, news) = (keeper.clone(), ears.open()?);
    tracker.spawn(async move { ears.listen(news, &woken, &listening).await });
    tracker.spawn(async move {
        keeper.run(&keeping).await;
        drop(host);
    });
    Ok(())
}

/// What listens to the hints and the feedback of all groups, also of those that come later.
struct Ears {
    nsq: Arc<Nsq>,
    board: Arc<Switchboard>,
    node: String,
    groups: GroupSource,
}

impl Ears {
    fn open(&self) -> Result<(Vec<Name>, NsqNews)> {
        let groups = (self.groups)();
        let news = NsqNews::start(&self.nsq, &groups, &self.node, &self.board);
        Ok((groups, news.map_err(|error| Failure::failed(error.to_string()))?))
    }

    async fn listen(&self, mut open: (Vec<Name>, NsqNews), keeper: &PairKeeper, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(GROUPS_EVERY)).await.is_some() {
            if (self.groups)() == open.0 {
                continue;
            }
            keeper.look_again();
            match self.open() {
                Ok(next) => open = next,
                Err(error) => tracing::warn!(%error, "cannot listen to a new group, will try again"),
            }
        }
    }
}
