//! The API on its listener.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::config::Secret;
use tsp_core::egress::EgressPolicy;
use tsp_store::IdSource;
use tsp_web::{DevHooks, Topology, WebDependencies, WebSettings, WebState};
use tsp_worker::http::check_tls;

use super::clock::ServerClock;
use super::cluster;
use super::dependencies::{DeploymentMode, ProcessDependencies};
use super::descriptors::Descriptors;
use super::dev_clock::DevClock;
use super::running::RunningTask;
use super::telemetry::Metrics;
use super::topology::EmbeddedTopology;
use crate::failure::{Failure, Result};
use crate::settings::Settings;

/// A client that never ends its request must not hold up the stop.
const STOP_AT_MOST: Duration = Duration::from_secs(10);

/// A running API.
#[derive(Debug)]
pub(super) struct RunningWeb {
    /// With the port that the system chose.
    pub(super) address: SocketAddr,
    answering: RunningTask,
}

pub(super) fn start_web(
    deps: &ProcessDependencies,
    settings: &Settings,
    descriptors: Descriptors,
    listener: TcpListener,
    metrics: &Metrics,
) -> Result<RunningWeb> {
    let unusable = |error: std::io::Error| Failure::failed(format!("cannot listen: {error}"));
    let address = listener.local_addr().map_err(unusable)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(unusable)?;
    let state = WebState::new(WebDependencies {
        store: deps.store.clone(),
        clock: deps.clock(),
        entropy: deps.entropy.clone(),
        ids: deps.ids.clone().unwrap_or_else(IdSource::none),
        hints: deps.hints.clone(),
        egress: EgressPolicy::new(settings.worker.allow_networks.clone()),
        check_tls: |tls| check_tls(tls).map_err(|problem| (problem.field, problem.message)),
        settings: web_settings(settings),
        metrics: Some(metrics.handle()),
        dev: dev_hooks(deps),
        readiness: deps.readiness.clone(),
        topology: topology(deps, settings),
    });
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let router =
        if settings.node.roles.web { tsp_web::router(state) } else { tsp_web::service_router(state) };
    let answering = RunningTask::new(
        &TaskTracker::new(),
        stop,
        tsp_web::serve(listener, router, descriptors.api, stopped),
    );
    Ok(RunningWeb { address, answering })
}

fn topology(deps: &ProcessDependencies, settings: &Settings) -> Arc<dyn Topology> {
    match &deps.mode {
        DeploymentMode::Embedded(embedded) => Arc::new(EmbeddedTopology::new(deps, embedded, settings)),
        DeploymentMode::Cluster(cluster) => cluster::topology(deps, cluster),
    }
}

fn web_settings(settings: &Settings) -> WebSettings {
    let key = settings.auth.bootstrap_key.as_ref();
    WebSettings {
        payload_bytes_max: settings.web.payload_max,
        metrics_open: settings.web.metrics_open,
        bootstrap_key: key.map(|key| Secret::new(key.expose_secret())),
    }
}

/// Only with a virtual clock: they also open the API to loopback without a key.
fn dev_hooks(deps: &ProcessDependencies) -> Option<Arc<dyn DevHooks>> {
    match (&deps.clock, &deps.mode) {
        (ServerClock::Virtual(clock), DeploymentMode::Embedded(embedded)) => {
            Some(Arc::new(DevClock::new(deps, embedded, clock.clone())))
        }
        _ => None,
    }
}

impl RunningWeb {
    /// Returns when it has ended without being told to.
    pub(super) async fn ended(&mut self) {
        self.answering.ended().await;
    }

    /// Takes no new requests and lets running ones end.
    pub(super) async fn stop(self) {
        if tokio::time::timeout(STOP_AT_MOST, self.answering.stop()).await.is_err() {
            tracing::warn!("stopping with requests still unanswered");
        }
    }
}
