//! The leases as the databases keep them.

use std::time::Duration;

use async_trait::async_trait;
use tsp_core::{Millis, Name, NodeId, ShardId, Timestamp};

use crate::error::{Cause, Result};
use crate::fetching::Owner;

/// What has one owner: the tasks of a group's configs on one shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardGroup {
    pub group: Name,
    pub shard: ShardId,
}

/// The leases of a cluster. Nodes and id slots are in the meta database; a shard's leases are in the
/// shard's own, beside the rows they fence.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Makes a node, alive for `lease`. Its id is new and never used again.
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId>;

    /// Renews a node's lease and writes down what it has to say.
    async fn renew(&self, node: NodeId, lease: Millis, heartbeat: Heartbeat) -> Result<Renewal>;

    /// The node stops: from now on it is dead. Its id slot is free.
    async fn leave(&self, node: NodeId) -> Result<()>;

    /// Nodes that are not dead, and those that died within the last hour.
    async fn nodes(&self) -> Result<Vec<NodeRow>>;

    /// Marks a node dead if its renewals still are what was seen and its lease has expired. Says whether it
    /// is dead now.
    async fn mark_dead(&self, node: NodeId, renewals: i64) -> Result<bool>;

    /// An id slot that no living node holds; `None` when all are taken.
    async fn take_id_slot(&self, node: NodeId) -> Result<Option<u8>>;

    /// Every shard group of these groups with its lease; shard groups that never had one are made, free.
    /// Shards whose database is unavailable are left out, with the reason, so that they hold up no others:
    /// the databases are asked side by side, and one that has not answered within a second or so counts as
    /// unavailable.
    async fn shard_groups(&self, groups: &[Name]) -> Result<ShardGroupLeases>;

    /// Takes a shard group under a new epoch. `None`: its lease has not expired, or is not what was seen.
    async fn take(&self, seen: &ShardGroupLease, node: NodeId, lease: Millis) -> Result<Option<Owner>>;

    /// Renews all shard groups of a node, all databases side by side, each with a limit as in
    /// [`LeaseStore::shard_groups`]. Shards of databases that could not be asked are in `failed`.
    async fn renew_leases(&self, node: NodeId, lease: Millis) -> Result<RenewedLeases>;

    /// Gives a shard group up, so that somebody else can take it at once. Nothing if it is not ours any more.
    async fn give_up(&self, shard_group: &ShardGroup, owner: Owner) -> Result<()>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// For operators: the machine's name, or what they called it.
    pub name: String,
    /// `web`, `fetcher`, `worker`.
    pub roles: Vec<String>,
    /// Of the program.
    pub version: String,
    /// Where its API listens, if it has one.
    pub address: Option<String>,
}

/// What a node says with each renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The last config change that all its work in flight has seen: [`crate::ConfigCache::finalised`].
    pub config_seq: i64,
    /// By how much its machine's clock differs from the meta database's.
    pub clock_offset: Millis,
    /// Callbacks running, if it is a worker.
    pub running: i64,
    /// Shard groups owned, if it is a fetcher.
    pub shard_groups: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Alive {
        /// The meta database's clock when it renewed.
        clock: Timestamp,
        /// The last config change that was made.
        config_seq: i64,
    },
    /// Somebody declared it dead, or its record is gone: it never renews again.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    pub id: NodeId,
    pub node: NewNode,
    pub started_at: Timestamp,
    /// Rises with each renewal: what a watcher watches.
    pub renewals: i64,
    pub lease_until: Timestamp,
    /// Whether the lease has expired by the database's clock.
    pub expired: bool,
    pub dead_at: Option<Timestamp>,
    pub heartbeat: Heartbeat,
}

/// A shard group's lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardGroupLease {
    pub shard_group: ShardGroup,
    /// `None`: free.
    pub owner: Option<NodeId>,
    pub epoch: i64,
    pub lease_until: Timestamp,
    /// Whether it has expired by the clock of its database.
    pub expired: bool,
    /// The name of the data source that holds the shard.
    pub source: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardGroupLeases {
    pub rows: Vec<ShardGroupLease>,
    /// Shards that could not be asked, and why.
    pub away: Vec<(ShardId, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenewedLeases {
    /// Shard groups that are the node's, renewed.
    pub held: Vec<(ShardGroup, Owner)>,
    /// Shards whose database could not be asked: their shard groups may still be ours.
    pub failed: Vec<ShardId>,
}

/// A question about leases is worth nothing once its answer has taken this share of the lease: a holder
/// must be able to ask again before the lease expires.
pub async fn answer_within<T>(lease: Millis, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = lease_share(lease);
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| {
        Err(Cause::Away.because(format!("no answer about a lease within {} ms", limit.as_millis())))
    })
}

fn lease_share(lease: Millis) -> Duration {
    lease.to_std() * 2 / 5
}
