//! What a lease manager asks of the process around it.

use async_trait::async_trait;
use tsp_store::cluster::ShardGroup;
use tsp_store::fetching::Owner;

/// Runs the fetcher, auditor and retention loop of each shard group that this node owns.
#[async_trait]
pub trait ShardGroupHost: Send + Sync {
    /// Starts the work of a shard group and returns at once. When the work ends by itself (deposed, or it cannot
    /// be started), the host says so with [`super::LeaseManager::ended`].
    fn start(&self, shard_group: &ShardGroup, owner: Owner);

    /// Returns when nothing of the shard group runs any more; at once if nothing does. The same shard group is not
    /// started again before that.
    async fn stop(&self, shard_group: &ShardGroup);
}
