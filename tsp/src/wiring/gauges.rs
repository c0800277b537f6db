//! Gauges that no component knows by itself.

use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_core::Name;

use super::dependencies::{DeploymentMode, ProcessDependencies};

/// Two short locks; nothing beside it while nobody has tasks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn keep_gauges(deps: &ProcessDependencies, tracker: &TaskTracker, stop: &CancellationToken) {
    // A cluster's queue belongs to no process: those that fill it tell of it.
    let DeploymentMode::Embedded(embedded) = &deps.mode else { return };
    gauge!("tsp_shard_leases").set(f64::from(deps.store.shards()));
    let (name, queue, stop) = (deps.queue_name.clone(), embedded.queue.clone(), stop.clone());
    let depth = DepthGauges::of(&name);
    tracker.spawn(async move {
        loop {
            if let Some((waiting, at_workers)) = queue.depth(&name) {
                depth.set(waiting, at_workers);
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    });
}

/// How many messages a queue holds.
pub(super) struct DepthGauges {
    waiting: Gauge,
    at_workers: Gauge,
}

impl DepthGauges {
    pub(super) fn of(queue: &Name) -> Self {
        let gauge =
            |state: &'static str| gauge!("tsp_queue_depth", "queue" => queue.to_string(), "state" => state);
        Self { waiting: gauge("waiting"), at_workers: gauge("at_workers") }
    }

    pub(super) fn set(&self, waiting: usize, at_workers: usize) {
        let count = |messages| f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
        self.waiting.set(count(waiting));
        self.at_workers.set(count(at_workers));
    }
}
