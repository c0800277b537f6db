//! What a keeper asks of the process around it.

use async_trait::async_trait;
use tsp_store::cluster::Pair;
use tsp_store::schedule::Owner;

/// Runs the fetcher, auditor and janitor of each pair that this node owns.
#[async_trait]
pub trait PairHost: Send + Sync {
    /// Starts the work of a pair and returns at once. When the work ends by itself (deposed, or it cannot
    /// be started), the host says so with [`super::PairKeeper::ended`].
    fn start(&self, pair: &Pair, owner: Owner);

    /// Returns when nothing of the pair runs any more; at once if nothing does. The same pair is not
    /// started again before that.
    async fn stop(&self, pair: &Pair);
}
