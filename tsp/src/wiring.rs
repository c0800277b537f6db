//! The only place that names concrete back ends, and that makes the clock, the randomness and the server's runtime.
//!
//! A server starts from the store upwards (store, queue, fetcher, worker, web) and stops in the order that
//! loses nothing: no new requests, no new claims, running callbacks end, the store closes. What commands do without a
//! server is in `offline` and `cluster::offline`.

mod clock;
mod clock_watch;
#[cfg(feature = "cluster")]
pub(crate) mod cluster;
mod dependencies;
pub(crate) mod descriptors;
mod dev_clock;
mod disk_reserve;
mod embedded;
mod entropy;
mod fetcher;
mod gauges;
mod ids;
#[cfg(not(feature = "cluster"))]
pub(crate) mod no_cluster;
mod node_name;
pub(crate) mod offline;
mod readiness;
mod running;
mod server;
mod stop;
mod store;
mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
mod topology;
mod web;
mod worker;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};

use futures::FutureExt as _;
use tsp_core::Name;

use crate::failure::{Failure, Result};
use crate::settings::{Settings, StoreLocation};
pub(crate) use clock::{ServerClock, machine_now};
use cluster::KnownNsqds;
use dependencies::ProcessDependencies;
use descriptors::Descriptors;
pub(crate) use entropy::OsEntropy;
#[cfg(not(feature = "cluster"))]
pub(crate) use no_cluster as cluster;
use server::{End, Server};
pub(crate) use stop::Signals;
pub(crate) use store::{beside, store_failure};

/// How long after a failed try to join its cluster a process tries again.
const REJOIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// What only the development server does, once the API answers and before `ready:`.
pub(crate) type Preparation = Box<dyn AsyncPrepare>;

#[async_trait::async_trait]
pub(crate) trait AsyncPrepare: Send {
    async fn prepare(self: Box<Self>, address: SocketAddr) -> Result;
}

/// Runs a server until it is told to stop.
pub(crate) fn serve(settings: &Settings, clock: ServerClock, prepare: Option<Preparation>) -> Result {
    let metrics = telemetry::install(&settings.log)?;
    let descriptors = Descriptors::raise(settings);
    // The first one installed stays; everything that speaks TLS uses it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Taken first: it is what fails most often, and nothing has to be undone then.
    let listener = listen(settings.web.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.runtime.workers())
        .thread_name("tsp")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(Box::pin(run(settings, clock, prepare, listener, descriptors, metrics)));
    // What runs still has nothing to lose. The look-up of a database's or nsqd's name may block its thread for
    // seconds; dropping the runtime would wait for it.
    runtime.shutdown_background();
    outcome
}

/// One life after another: a process that is no node of its cluster any more begins again as another one.
async fn run(
    settings: &Settings,
    clock: ServerClock,
    mut prepare: Option<Preparation>,
    listener: TcpListener,
    descriptors: Descriptors,
    metrics: telemetry::Metrics,
) -> Result {
    let mut signals = Signals::listen()?;
    let nsqds = KnownNsqds::default();
    let mut deps = open_parts(settings, clock.clone(), &nsqds).await?;
    warn_without_keys(&deps, settings).await;
    loop {
        let own = listener.try_clone().map_err(|error| Failure::failed(format!("cannot listen: {error}")))?;
        let mut server = Server::start(&deps, settings, descriptors, own, &metrics)?;
        let prepared = match prepare.take() {
            Some(prepare) => prepare.prepare(server.address).await,
            None => Ok(()),
        };
        let why = match prepared.and_then(|()| announce(&deps, server.address)) {
            Ok(()) => signals.first_or(server.ended(&deps)).await,
            Err(failure) => Some(End::Failed(failure)),
        };
        deps.readiness.set_stopping();
        if matches!(why, Some(End::Disk)) {
            // At once: a callback that ends now cannot be saved, and is repeated after the next start.
            return Err(disk_failure(settings));
        }
        if !matches!(why, Some(End::Lost)) {
            let last_signal = signals.exit_on_the_next();
            tracing::info!("stopping");
            // The server has a clone: while one of them is open, callers are let in whom nobody answers.
            drop(listener);
            server.stop().await;
            deps.close().await;
            last_signal.abort();
            tracing::info!("stopped");
            return match why {
                Some(End::Failed(failure)) => Err(failure),
                _ if deps.disk_failed().now_or_never().is_some() => Err(disk_failure(settings)),
                _ => Ok(()),
            };
        }
        tracing::warn!("this process is no node of the cluster any more; it joins again");
        server.stop().await;
        deps.close().await;
        let Some(next) = signals.first_or(reopen(settings, &clock, &nsqds)).await else { return Ok(()) };
        deps = next;
    }
}

fn disk_failure(settings: &Settings) -> Failure {
    let database = match &settings.store.location {
        StoreLocation::File(path) => path.display().to_string(),
        StoreLocation::Memory | StoreLocation::Cluster(_) => "the database".to_owned(),
    };
    Failure::failed(format!("the disk did not take what was written to `{database}`: a sync has failed"))
        .advise("look at the disk and the system's log; then start again: what was accepted is there, or move the file")
}

/// `nsqds` goes on from one life of the process to the next, as `clock` does.
async fn open_parts(
    settings: &Settings,
    clock: ServerClock,
    nsqds: &KnownNsqds,
) -> Result<ProcessDependencies> {
    let queue_name = Name::default_name();
    match clock {
        ServerClock::Cluster(clock) => cluster::open(settings, clock, nsqds, queue_name).await,
        clock => embedded::open(settings, clock, queue_name).await,
    }
}

/// The databases may still be unavailable: they were, or this would not have happened.
async fn reopen(settings: &Settings, clock: &ServerClock, nsqds: &KnownNsqds) -> ProcessDependencies {
    loop {
        match open_parts(settings, clock.clone(), nsqds).await {
            Ok(deps) => return deps,
            Err(failure) => {
                tracing::warn!(%failure, "cannot join the cluster yet, will try again");
                tokio::time::sleep(REJOIN_AFTER).await;
            }
        }
    }
}

/// Says that it may be called: to callers, to operators and to scripts.
fn announce(deps: &ProcessDependencies, address: SocketAddr) -> Result {
    deps.readiness.set_ready();
    let configs = deps.config_cache().config_count();
    tracing::info!(%address, node = %deps.node, configs, "serving");
    let mut out = std::io::stdout();
    // The one line on standard output that scripts wait for.
    let said = writeln!(out, "ready: http://{address}").and_then(|()| out.flush());
    said.map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}

/// A server that nobody may call is a beginner's trap.
async fn warn_without_keys(deps: &ProcessDependencies, settings: &Settings) {
    let open = settings.auth.bootstrap_key.is_some() || matches!(deps.clock, ServerClock::Virtual(_));
    if !open && deps.store.keys(None).await.is_ok_and(|keys| keys.is_empty()) {
        tracing::warn!(
            "nobody may call the API yet: set `auth.bootstrap_key`, or run \
             `tsp key create --global --name ops --scope admin`"
        );
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let failure = Failure::failed(format!("cannot listen on `{address}`: {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure
                .advise("stop what listens there, or set `web.listen` to another port (0 takes a free one)"),
            _ => failure.advise("set `web.listen` to an address of this machine"),
        }
    })
}
