//! What the wiring hands in so that this crate needs to know no other role.

use async_trait::async_trait;
use tsp_core::{ConfigId, Millis, Name, NodeId, ShardId, Timestamp};
use tsp_store::StoreError;

/// Tells the fetcher what it would otherwise find by itself a little later. A lost hint costs time only.
pub trait WakeHints: Send + Sync + std::fmt::Debug {
    /// A task of `config` on `shard` is due at `due_at`, perhaps before everything known.
    fn wake(&self, config: ConfigId, shard: ShardId, due_at: Timestamp);

    /// The config was made, changed, held, released or deleted.
    fn config_changed(&self, config: ConfigId);

    /// The wait that the config's receiver asked for until `at` was ended.
    fn unparked(&self, config: ConfigId, at: Timestamp);
}

/// Whether this process may take traffic.
pub trait Readiness: Send + Sync + std::fmt::Debug {
    /// What is missing, in words without addresses; empty when ready.
    fn missing(&self) -> Vec<String>;
}

/// What only the development server can do.
#[async_trait]
pub trait DevHooks: Send + Sync + std::fmt::Debug {
    /// Moves the virtual clock, from due time to due time, and returns when all that fired has ended.
    async fn advance_clock(&self, by: Millis) -> ClockAdvance;
}

/// Where a move of the virtual clock has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAdvance {
    pub now: Timestamp,
    /// How many callbacks were started on the way.
    pub fired: u64,
}

/// Who is there, and who does what, as far as this process can find out.
#[async_trait]
pub trait Topology: Send + Sync + std::fmt::Debug {
    /// The nodes that are not dead, and those that died lately, in any order.
    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError>;

    /// Every shard group, in any order.
    async fn shards(&self) -> Result<ShardsView, StoreError>;

    /// The queues between fetchers and workers, in any order.
    async fn queues(&self) -> Result<Vec<QueueView>, StoreError>;
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub id: NodeId,
    /// For operators.
    pub name: String,
    /// `web`, `fetcher`, `worker`.
    pub roles: Vec<String>,
    /// Of the program.
    pub version: String,
    pub state: NodeState,
    pub started_at: Timestamp,
    /// `None`: it has no lease that could end.
    pub lease_until: Option<Timestamp>,
    /// By how much its machine's clock differs from the database's.
    pub clock_offset: Millis,
    /// Callbacks running.
    pub running: i64,
    /// Pairs of a group and a shard owned.
    pub shards: i64,
    /// The last config change it has applied.
    pub config_seq: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    Alive,
    /// Its lease has expired, and it was not marked dead yet.
    Late,
    Dead,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardsView {
    pub rows: Vec<ShardView>,
    /// Shards that could not be asked, and why. The reason is for the log: it may hold addresses.
    pub away: Vec<(u16, String)>,
}

/// A shard group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    pub shard: u16,
    pub group: Name,
    /// The name of the data source.
    pub source: String,
    /// `None`: free.
    pub owner: Option<NodeId>,
    pub epoch: i64,
    /// How long the earliest scheduled row is overdue, zero when none is; `None` where nobody has counted.
    pub lag: Option<Millis>,
    /// Open rows; `None` where nobody has counted them.
    pub open: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    pub name: String,
    /// Messages that wait.
    pub depth: i64,
    /// Messages out at workers.
    pub in_flight: i64,
    /// Messages a second, lately.
    pub rate: f64,
    /// Workers that take from it.
    pub consumers: i64,
}
