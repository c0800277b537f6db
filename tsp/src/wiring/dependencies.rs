//! What all roles of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use tsp_core::{Clock, Entropy, Name, NodeId};
use tsp_queue::{FeedbackSink, Subscriber};
use tsp_store::cluster::NodeLease;
use tsp_store::{AttemptStore, ConfigCache, IdSlots, IdSource, Store};
use tsp_web::WakeHints;

use super::clock::ServerClock;
use super::cluster::Cluster;
use super::embedded::Embedded;
use super::readiness::Phase;

pub(super) struct ProcessDependencies {
    /// What serves callers.
    pub(super) store: Arc<dyn Store>,
    /// The pipelines of the worker, which do not wait for each other; none without the role.
    pub(super) pipelines: Vec<PipelineParts>,
    pub(super) clock: ServerClock,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Of web and fetcher.
    pub(super) ids: Option<IdSource>,
    pub(super) id_slots: Arc<dyn IdSlots>,
    pub(super) node: NodeId,
    pub(super) lease: Arc<NodeLease>,
    pub(super) hints: Arc<dyn WakeHints>,
    pub(super) feedback: Arc<dyn FeedbackSink>,
    pub(super) queue_name: Name,
    /// Callbacks sent since the start.
    pub(super) sent: Arc<AtomicU64>,
    /// Callbacks running.
    pub(super) running: Arc<AtomicI64>,
    pub(super) readiness: Arc<Phase>,
    pub(super) mode: DeploymentMode,
}

/// Where messages come from, and what their tasks are begun and finished by.
pub(super) struct PipelineParts {
    pub(super) subscriber: Arc<dyn Subscriber>,
    pub(super) store: Arc<dyn AttemptStore>,
}

/// What only one of the two deployment modes has.
pub(super) enum DeploymentMode {
    Embedded(Embedded),
    Cluster(Box<Cluster>),
}

impl ProcessDependencies {
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.get()
    }

    pub(super) fn config_cache(&self) -> &Arc<ConfigCache> {
        self.store.config_cache()
    }

    /// Returns when the disk has failed under the store: the process must end.
    pub(super) async fn disk_failed(&self) {
        match &self.mode {
            DeploymentMode::Embedded(embedded) => embedded.store.failed().await,
            DeploymentMode::Cluster(_) => std::future::pending().await,
        }
    }

    /// The last thing a process does.
    pub(super) async fn close(&self) {
        match &self.mode {
            DeploymentMode::Embedded(embedded) => embedded.close().await,
            DeploymentMode::Cluster(cluster) => cluster.close().await,
        }
    }
}
