//! Figures that no part knows by itself.

use std::time::Duration;

use super::parts::{Parts, Shape};
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two short locks; nothing beside it while nobody has tasks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn keep_gauges(parts: &Parts, tracker: &TaskTracker, stop: &CancellationToken) {
    // A cluster's queue belongs to no process: whoever asks for `/queues` looks at it.
    let Shape::Embedded(embedded) = &parts.shape else { return };
    gauge!("tsp_shard_leases").set(f64::from(parts.store.shards()));
    let (queue, name, stop) = (embedded.queue.clone(), parts.queue_name.clone(), stop.clone());
    let gauge_of =
        |state: &'static str| gauge!("tsp_queue_depth", "queue" => name.to_string(), "state" => state);
    let (waiting, at_workers) = (gauge_of("waiting"), gauge_of("at_workers"));
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

fn count(messages: usize) -> f64 {
    f64::from(u32::try_from(messages).unwrap_or(u32::MAX))
}
