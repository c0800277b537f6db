//! The worker: HTTP callbacks on the pipeline.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_consumer_core::{Pipeline, PipelineDependencies, TaskContext, TaskHandler, Worker, WorkerOptions};
use tsp_core::egress::EgressPolicy;
use tsp_core::outcome::Verdict;
use tsp_worker::SystemLookup;
use tsp_worker::http::{ClientSettings, HttpHandler, read_ca_file};

use super::clock::ServerClock;
use super::cluster::NsqSubscriber;
use super::dependencies::{DeploymentMode, PipelineParts, ProcessDependencies};
use super::descriptors::Descriptors;
use super::running::RunningTask;
use crate::failure::{Failure, Result};
use crate::settings::Settings;

/// How often connections that nobody uses are closed.
const CLOSE_IDLE_EVERY: Duration = Duration::from_secs(5);
/// How long nsqd is given to take back the last messages at a stop.
const REQUEUE_WITHIN: Duration = Duration::from_secs(1);
/// A config gets at most this share of the permits, so that a slow receiver never takes them all.
const SHARE_PER_CONFIG: usize = 4;

/// A running worker.
#[derive(Debug)]
pub(super) struct RunningWorker {
    pipeline: RunningTask,
    /// Of a cluster: where its messages come from.
    subscriber: Option<Arc<NsqSubscriber>>,
    shutdown_grace: Duration,
    tracker: TaskTracker,
    http: Arc<HttpHandler>,
}

pub(super) fn start_worker(
    deps: &ProcessDependencies,
    settings: &Settings,
    descriptors: Descriptors,
) -> Result<RunningWorker> {
    let client = ClientSettings {
        policy: EgressPolicy::new(settings.worker.allow_networks.clone()),
        user_agent: concat!("tsp/", env!("CARGO_PKG_VERSION")).to_owned(),
        extra_roots: extra_roots(settings.worker.ca_file.as_deref())?,
        lookup: Arc::new(SystemLookup::new(settings.worker.name_servers.clone())),
        connections_max: descriptors.receivers,
        look_ups_max: descriptors.look_ups,
    };
    let http = HttpHandler::new(&client, deps.entropy.clone())
        .map_err(|error| Failure::failed(format!("cannot make the HTTP client: {error}")))?;
    let http = Arc::new(http);
    let concurrency = descriptors.callbacks;
    let options = WorkerOptions {
        concurrency,
        per_config: (concurrency / SHARE_PER_CONFIG).max(1),
        shutdown_grace: settings.worker.shutdown_grace,
        finish_wait: match &deps.clock {
            ServerClock::System(_) | ServerClock::Cluster(_) => WorkerOptions::default().finish_wait,
            // Moving the clock waits for every outcome, so none waits for company.
            ServerClock::Virtual(_) => Duration::ZERO,
        },
        ..WorkerOptions::default()
    };
    let handler =
        MeteredHandler { sent: deps.sent.clone(), running: deps.running.clone(), inner: http.clone() };
    let mut pipelines = deps.pipelines.iter().map(|of| pipeline(deps, of));
    let first = pipelines
        .next()
        .ok_or_else(|| Failure::failed(format!("there is no queue `{}`", deps.queue_name)))?;
    let first = Worker::new(first, Arc::new(handler), options);
    let mut workers: Vec<Worker> = pipelines.map(|pipeline| first.beside(pipeline)).collect();
    workers.push(first);
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let (idle, client) = (stop.clone(), http.clone());
    tracker.spawn(async move {
        while idle.run_until_cancelled(tokio::time::sleep(CLOSE_IDLE_EVERY)).await.is_some() {
            client.close_idle(tokio::time::Instant::now());
        }
    });
    let all = join_all(workers.into_iter().map(|worker| worker.run(stop.clone())));
    let pipeline = RunningTask::new(&tracker, stop, async { drop(all.await) });
    let subscriber = match &deps.mode {
        DeploymentMode::Embedded(_) => None,
        DeploymentMode::Cluster(cluster) => cluster.subscriber.clone(),
    };
    let shutdown_grace = settings.worker.shutdown_grace;
    Ok(RunningWorker { pipeline, subscriber, shutdown_grace, tracker, http })
}

/// The authorities of `worker.http.ca_file`.
fn extra_roots(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    let Some(path) = file else { return Ok(Vec::new()) };
    let failure =
        |why: String| Failure::failed(format!("`worker.http.ca_file` = `{}` {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| failure(format!("cannot be read: {error}")))?;
    read_ca_file(&pem).map_err(failure)
}

fn pipeline(deps: &ProcessDependencies, of: &PipelineParts) -> Pipeline {
    Pipeline::new(PipelineDependencies {
        store: of.store.clone(),
        node: deps.node,
        lease: deps.lease.clone(),
        configs: deps.config_cache().clone(),
        subscriber: of.subscriber.clone(),
        feedback: deps.feedback.clone(),
        clock: deps.clock(),
        entropy: deps.entropy.clone(),
    })
}

/// Counts what it sends, for `tsp clock advance`, and what runs, for `GET /nodes`.
#[derive(Debug)]
struct MeteredHandler {
    sent: Arc<AtomicU64>,
    running: Arc<AtomicI64>,
    inner: Arc<dyn TaskHandler>,
}

#[async_trait]
impl TaskHandler for MeteredHandler {
    async fn execute(&self, task: &TaskContext) -> Verdict {
        self.sent.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::Relaxed);
        let verdict = self.inner.execute(task).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        verdict
    }
}

impl RunningWorker {
    /// Returns when it has ended without being told to.
    pub(super) async fn ended(&mut self) {
        self.pipeline.ended().await;
    }

    /// Lets running callbacks end, up to their grace, and hands the rest back.
    pub(super) async fn stop(self) {
        self.http.stopping();
        let stopped = CancellationToken::new();
        let stop = async {
            self.pipeline.stop().await;
            stopped.cancel();
        };
        // When nothing runs here any more nobody will say what became of a message: nsqd gets it back now.
        let enough = async {
            stopped.cancelled().await;
            tokio::time::sleep(REQUEUE_WITHIN).await;
        };
        // Others get at once what nobody has taken here, and all that comes while the last callbacks run.
        let give_up = async {
            let Some(subscriber) = &self.subscriber else { return };
            tokio::select! {
                () = subscriber.close(self.shutdown_grace) => {}
                () = enough => subscriber.close(Duration::ZERO).await,
            }
        };
        tokio::join!(stop, give_up);
        self.tracker.close();
        self.tracker.wait().await;
    }
}
