//! A whole server within a test, on a store in memory: what `serve` starts, without signals and output.

use std::net::SocketAddr;

use metrics_exporter_prometheus::PrometheusBuilder;
use tsp_client::Client;

use super::clock::ServerClock;
use super::cluster::KnownNsqds;
use super::dependencies::ProcessDependencies;
use super::descriptors::Descriptors;
use super::server::Server;
use super::telemetry::Metrics;
use crate::environment::Environment;
use crate::settings::Settings;

/// Stopped by [`TestServer::stop`]; a test that fails leaves it to the end of the process.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    deps: ProcessDependencies,
    server: Server,
}

impl TestServer {
    /// With a virtual clock, so that it needs no key.
    pub(crate) async fn start() -> Self {
        let environment = Environment::of(&[
            ("TSP__WEB__LISTEN", "127.0.0.1:0"),
            ("TSP__STORE__URL", "sqlite::memory:"),
            ("TSP__WORKER__HTTP__ALLOW_NETWORKS", "127.0.0.0/8"),
        ]);
        let settings = Settings::load(None, &environment, &[]).expect("the settings are sound");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = super::listen(settings.web.listen).expect("a free port");
        let deps = super::open_parts(&settings, ServerClock::virtual_(), &KnownNsqds::default())
            .await
            .expect("a store in memory");
        let descriptors = Descriptors::of(1_024, &settings);
        let metrics = Metrics::of(PrometheusBuilder::new().build_recorder().handle());
        let server =
            Server::start(&deps, &settings, descriptors, listener, &metrics).expect("all roles start");
        deps.readiness.set_ready();
        Self { address: server.address, deps, server }
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder(format!("http://{}", self.address)).build().expect("a loopback address")
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
        self.deps.close().await;
    }
}
