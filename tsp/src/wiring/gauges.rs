//! Gauges that no component knows by itself.

use std::time::Duration;

use super::dependencies::{DeploymentMode, ProcessDependencies};
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two short locks; nothing beside it while nobody has tasks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A question to each nsqd.
const ASK_EVERY: Duration = Duration::from_secs(5);

pub(super) fn keep_gauges(
    deps: &ProcessDependencies,
    fetches: bool,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    let (name, stop) = (deps.queue_name.clone(), stop.clone());
    let gauge_of =
        |state: &'static str| gauge!("tsp_queue_depth", "queue" => name.to_string(), "state" => state);
    match &deps.mode {
        DeploymentMode::Embedded(embedded) => {
            gauge!("tsp_shard_leases").set(f64::from(deps.store.shards()));
            let (waiting, at_workers) = (gauge_of("waiting"), gauge_of("at_workers"));
            let queue = embedded.queue.clone();
            tracker.spawn(async move {
                loop {
                    if let Some((wait, out)) = queue.depth(&name) {
                        waiting.set(count(wait));
                        at_workers.set(count(out));
                    }
                    if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                        return;
                    }
                }
            });
        }
        // The queue belongs to no process; those that fill it tell of it.
        DeploymentMode::Cluster(cluster) if fetches => {
            let (waiting, at_workers) = (gauge_of("waiting"), gauge_of("at_workers"));
            let nsq = cluster.nsq.clone();
            tracker.spawn(async move {
                let ask = async {
                    loop {
                        let depth = nsq.depth(&name).await;
                        waiting.set(count(depth.depth));
                        at_workers.set(count(depth.in_flight));
                        tokio::time::sleep(ASK_EVERY).await;
                    }
                };
                let _: Option<std::convert::Infallible> = stop.run_until_cancelled(ask).await;
            });
        }
        DeploymentMode::Cluster(_) => {}
    }
}

fn count(messages: usize) -> f64 {
    f64::from(u32::try_from(messages).unwrap_or(u32::MAX))
}
