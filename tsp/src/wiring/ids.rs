//! The lease of the id slot, renewed by real time whatever the service's clock does.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_store::id_source::RENEW_EVERY;

use super::dependencies::ProcessDependencies;

pub(super) fn keep_renewed(deps: &ProcessDependencies, tracker: &TaskTracker, stop: &CancellationToken) {
    let Some(ids) = deps.ids.clone() else { return };
    let (slots, clock, stop) = (deps.id_slots.clone(), deps.clock.get(), stop.clone());
    tracker.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(RENEW_EVERY.to_std())).await.is_some() {
            if let Err(error) = ids.renew(&*slots, clock.now()).await {
                tracing::warn!(%error, "could not renew the id slot, will try again");
            }
        }
    });
}
