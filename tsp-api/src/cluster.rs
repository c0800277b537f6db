//! The processes, shards and queues of a service (API.md section 4b), and config changes on their way.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Notice;
use crate::id::Id;
use crate::time::Time;

/// A process that serves, or served within the last hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// New at each start and never used again.
    pub id: Id,
    /// For people: the machine's name, or what the operator called it.
    pub name: String,
    /// `web`, `fetcher`, `worker`.
    pub roles: Vec<String>,
    /// Of the program.
    pub version: String,
    pub state: NodeState,
    pub started_at: Time,
    /// Until when it is alive without another renewal; null where nothing has to be renewed, which is so in
    /// the embedded server.
    pub lease_until: Option<Time>,
    /// By how much its machine's clock differs from the database's.
    pub clock_offset_ms: i64,
    pub load: NodeLoad,
    /// The last config change that it has applied.
    pub config_seq: i64,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Alive,
    /// Its lease is over and nobody has declared it dead yet.
    Late,
    /// It stopped, or was declared dead; it never comes back under this id.
    Dead,
}

/// What a node has at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoad {
    /// Callbacks that it runs.
    pub running: i64,
    /// What it owns: a shard counts once for each group.
    pub shards: i64,
}

/// The tasks of a group on one shard. Fields are null where they are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shard {
    pub shard: u16,
    /// Null for a shard that is away.
    pub group: Option<String>,
    /// The name of the data source that holds the shard.
    pub source: Option<String>,
    pub state: ShardState,
    /// The node that schedules it; null while it is free.
    pub owner: Option<Id>,
    /// Rises with each change of the owner.
    pub epoch: Option<i64>,
    /// How long the earliest waiting task is overdue; 0 when none is.
    pub lag_ms: Option<i64>,
    /// Open tasks.
    pub open: Option<i64>,
}

/// Whether a shard is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    Owned,
    /// Nobody schedules it at the moment.
    Free,
    /// Its database cannot be asked.
    Away,
}

/// A queue between fetchers and workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    pub name: String,
    /// Messages that wait for a worker.
    pub depth: i64,
    /// Messages that workers hold.
    pub in_flight: i64,
    /// Messages a second, lately.
    pub rate: f64,
    /// Workers that take from it.
    pub consumers: i64,
}

/// A config change that is made, and that some nodes may not have applied yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingChange {
    /// The number of the change: it is everywhere once each living node shows this `config_seq` or a higher
    /// one.
    pub config_seq: i64,
    /// What the change did beside what it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}
