//! All roles of a process, started together, watched together, and stopped in the order that loses nothing.

use std::net::{SocketAddr, TcpListener};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::RunningCluster;
use super::dependencies::{DeploymentMode, ProcessDependencies};
use super::descriptors::Descriptors;
use super::fetcher::{RunningFetcher, start_fetcher};
use super::telemetry::Metrics;
use super::web::{RunningWeb, start_web};
use super::worker::{RunningWorker, start_worker};
use super::{clock_watch, gauges, ids};
use crate::failure::{Failure, Result};
use crate::settings::Settings;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// Health and metrics where the process has not the role `web`.
    web: RunningWeb,
    fetcher: Option<RunningFetcher>,
    worker: Option<RunningWorker>,
    cluster: Option<RunningCluster>,
    background: TaskTracker,
    stop_background: CancellationToken,
}

/// Why a server has ended without being told to.
#[derive(Debug)]
pub(super) enum End {
    Failed(Failure),
    /// The process is no node any more: it must begin again as another one.
    Lost,
    /// The disk has failed under the store: whatever happens now could not be kept.
    Disk,
}

impl Server {
    pub(super) fn start(
        deps: &ProcessDependencies,
        settings: &Settings,
        descriptors: Descriptors,
        listener: TcpListener,
        metrics: &Metrics,
    ) -> Result<Self> {
        let (background, stop_background) = (TaskTracker::new(), CancellationToken::new());
        ids::keep_renewed(deps, &background, &stop_background);
        clock_watch::watch_clock(deps, &settings.node, &background, &stop_background);
        gauges::keep_gauges(deps, &background, &stop_background);
        metrics.keep_up(&background, &stop_background);
        let (fetcher, cluster) = match &deps.mode {
            DeploymentMode::Embedded(embedded) => {
                let fetcher = start_fetcher(deps, embedded, settings, &background, &stop_background)?;
                (Some(fetcher), None)
            }
            DeploymentMode::Cluster(cluster) => (None, Some(RunningCluster::start(deps, cluster, settings)?)),
        };
        let worker =
            if settings.node.roles.worker { Some(start_worker(deps, settings, descriptors)?) } else { None };
        let web = start_web(deps, settings, descriptors, listener, metrics)?;
        Ok(Self { address: web.address, web, fetcher, worker, cluster, background, stop_background })
    }

    /// Returns when a role has ended by itself: it failed, and the others alone would only look alive.
    pub(super) async fn ended(&mut self, deps: &ProcessDependencies) -> End {
        let role = tokio::select! {
            () = deps.disk_failed() => return End::Disk,
            () = ended_if(self.fetcher.as_mut(), RunningFetcher::ended) => "fetcher",
            () = ended_if(self.worker.as_mut(), RunningWorker::ended) => "worker",
            () = ended_if(self.cluster.as_mut(), RunningCluster::lost) => return End::Lost,
            () = self.web.ended() => "API",
        };
        let failure = Failure::failed(format!("the {role} has ended by itself"))
            .advise("the log says why; start the server again");
        End::Failed(failure)
    }

    /// No new requests, no new claims, running callbacks end up to their grace.
    pub(super) async fn stop(self) {
        self.web.stop().await;
        if let Some(fetcher) = self.fetcher {
            fetcher.stop().await;
        }
        if let Some(cluster) = &self.cluster {
            cluster.stop_fetching().await;
        }
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        // Its lease is renewed until the last callback has ended.
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
        self.stop_background.cancel();
        self.background.close();
        self.background.wait().await;
    }
}

/// Never, where there is no such role.
async fn ended_if<'r, R, F: Future<Output = ()> + 'r>(
    role: Option<&'r mut R>,
    ended: impl FnOnce(&'r mut R) -> F,
) {
    match role {
        Some(role) => ended(role).await,
        None => std::future::pending().await,
    }
}
