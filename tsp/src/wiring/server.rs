//! All roles of a process, started together, watched together, and stopped in the order that loses nothing.

use std::net::{SocketAddr, TcpListener};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fetcher::{RunningFetcher, start_fetcher};
use super::parts::Parts;
use super::telemetry::Metrics;
use super::web::{RunningWeb, start_web};
use super::worker::{RunningWorker, start_worker};
use super::{clock_watch, gauges, ids};
use crate::failure::{Failure, Result};
use crate::settings::Settings;

#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    fetcher: RunningFetcher,
    worker: RunningWorker,
    web: RunningWeb,
    background: TaskTracker,
    stop_background: CancellationToken,
}

impl Server {
    pub(super) fn start(
        parts: &Parts,
        settings: &Settings,
        listener: TcpListener,
        metrics: &Metrics,
    ) -> Result<Self> {
        let (background, stop_background) = (TaskTracker::new(), CancellationToken::new());
        ids::keep_renewed(parts, &background, &stop_background);
        clock_watch::watch_clock(parts, &settings.node, &background, &stop_background);
        gauges::keep_gauges(parts, &background, &stop_background);
        metrics.keep_up(&background, &stop_background);
        let fetcher = start_fetcher(parts, settings, &background, &stop_background)?;
        let worker = start_worker(parts, settings)?;
        let web = start_web(parts, settings, listener, metrics)?;
        Ok(Self { address: web.address, fetcher, worker, web, background, stop_background })
    }

    /// Returns when a role has ended by itself: it failed, and the others alone would only look alive.
    pub(super) async fn ended(&mut self) -> Failure {
        let role = tokio::select! {
            () = self.fetcher.ended() => "fetcher",
            () = self.worker.ended() => "worker",
            () = self.web.ended() => "API",
        };
        Failure::failed(format!("the {role} has ended by itself"))
            .advise("the log says why; start the server again")
    }

    /// No new requests, no new claims, running callbacks end up to their grace.
    pub(super) async fn stop(self) {
        self.web.stop().await;
        self.fetcher.stop().await;
        self.worker.stop().await;
        self.stop_background.cancel();
        self.background.close();
        self.background.wait().await;
    }
}

/// A loop of a role, and how to end it.
#[derive(Debug)]
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn new(
        tracker: &TaskTracker,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { stop, task: tracker.spawn(task) }
    }

    /// Returns when it has ended without being told to.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a role of the server has failed");
        }
    }

    /// Tells it to stop and waits until it has.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        if !self.task.is_finished()
            && let Err(error) = self.task.await
        {
            tracing::error!(%error, "a role of the server has failed");
        }
    }
}
