//! What the owner of a fetch scope does: claim, fire schedules, rescue, apply retention, audit.

use async_trait::async_trait;
use tsp_core::config::TaskConfig;
use tsp_core::schedule::step::ScheduleStep;
use tsp_core::task::{Status, Task};
use tsp_core::task_key::{config_shard, span_shards};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, Timestamp};

use crate::cluster::ShardGroup;
use crate::error::Result;
use crate::parks::{Park, ParkEvent};

pub use tsp_core::schedule::step::{Cursor, Fire, SlotTask};

/// The only owner of an embedded store; in a cluster nodes and leases are [`crate::cluster::LeaseStore`]'s.
#[async_trait]
pub trait EmbeddedOwnership: Send + Sync {
    /// Makes a node: its id is new and never used again. All other nodes of an embedded store are dead.
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId>;

    /// Takes the shards of this store under a new epoch.
    async fn take_shards(&self, node: NodeId, now: Timestamp) -> Result<Owner>;
}

/// What is scheduled by one owner: a whole embedded store, or one shard group of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FetchScope {
    Whole,
    ShardGroup(ShardGroup),
}

impl FetchScope {
    /// Whether tasks of `config` may be scheduled here.
    pub fn holds(&self, config: &TaskConfig) -> bool {
        match self {
            Self::Whole => true,
            Self::ShardGroup(shard_group) => shard_group.group == config.spec.group,
        }
    }

    /// Whether its tasks may be in this partition, as its span is now.
    pub fn covers(&self, config: &TaskConfig, shards: u16) -> bool {
        match self {
            Self::Whole => true,
            Self::ShardGroup(shard_group) => {
                self.holds(config)
                    && span_shards(config.id, config.spec.span, shards)
                        .any(|shard| shard == shard_group.shard)
            }
        }
    }

    /// Whether the cursor of `config` is in this partition. Its tasks may be in others too, by its span.
    pub fn schedules(&self, config: &TaskConfig, shards: u16) -> bool {
        match self {
            Self::Whole => true,
            Self::ShardGroup(shard_group) => {
                self.holds(config) && shard_group.shard == config_shard(config.id, shards)
            }
        }
    }
}

/// Everything is of one [`FetchScope`].
#[async_trait]
pub trait FetcherStore: Send + Sync {
    fn fetch_scope(&self) -> FetchScope;

    /// Which of these nodes are dead; a node without a record is.
    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>>;

    /// The earliest due time of each config that has scheduled rows: one seek per config with rows.
    async fn earliest_due(&self) -> Result<Vec<EarliestDue>>;

    /// Scheduled to queued, for what is requested, in one transaction that checks the owner's epoch first.
    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult>;

    /// What is queued and executing, a page of at most `limit` rows after the one before. What is in flight
    /// from the first page to the last is in one of them.
    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage>;

    /// Queued to scheduled, for these (id, version), checked for the owner's epoch. The rows that changed.
    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>>;

    /// `worker_lost` for executing rows of a node that is gone. The rows that changed.
    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>>;

    /// Ends the wait of awaiting rows whose deadline has passed. The rows that changed.
    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>>;

    /// The earliest deadline of an awaiting row.
    async fn next_deadline(&self) -> Result<Option<Timestamp>>;

    /// The configs that are parked here and whose time is not over. `reread`: also what is kept elsewhere of
    /// configs whose tasks are on more shards, as far as these can be asked: it may not have come here while
    /// nobody owned this fetch scope.
    async fn parks(&self, reread: bool, now: Timestamp) -> Result<Vec<Park>>;

    /// Keeps what was learned, in one transaction. Not fenced: it is true whoever says it.
    async fn save_parks(&self, events: Vec<ParkEvent>) -> Result<()>;

    /// All cursors of schedules.
    async fn cursors(&self) -> Result<Vec<Cursor>>;

    /// The cursors of these configs, in any order; those that have none are left out.
    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>>;

    /// A step of each of these schedules, with the answers in their order. It is taken whole or not at all, whatever
    /// becomes of the others: occurrences with their tasks, and the cursor moved, in a transaction that checks the
    /// epoch and compares the cursor's version and the config's version.
    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>>;
}

/// As [`FetcherStore`], of one fetch scope.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Drops ended tasks past their config's retention, attempts with them, expired idempotency records,
    /// occurrences far below the cursor, old audit entries, and processes that are long gone: at
    /// most `limit` rows. Returns how many; 0 = nothing left.
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize>;
}

/// As [`FetcherStore`], of one fetch scope.
#[async_trait]
pub trait AuditorStore: Send + Sync {
    /// Counts for the auditor and the gauges.
    async fn audit(&self, now: Timestamp) -> Result<Audit>;
}

/// The right to claim: a node and the epoch it took its shards under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub node: NodeId,
    pub epoch: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarliestDue {
    pub config: ConfigId,
    pub due_at: Timestamp,
}

/// Claim up to `limit` rows of `config` that are due at `due_by` or before, in order of due time and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimRequest {
    pub config: ConfigId,
    pub due_by: Timestamp,
    pub limit: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaimResult {
    /// Claimed rows, by want, then due time and id.
    pub tasks: Vec<Box<Task>>,
    /// Claimed rows that come without what they carry: all of them where the queue is outside of this process
    /// and workers load them, else those beyond a bound of bytes.
    pub bare: Vec<BareRow>,
    /// Rows that ended instead: their expiry had passed.
    pub expired: Vec<Box<Task>>,
    /// The earliest due time of what is left scheduled, for each config of the claim requests.
    pub earliest_due: Vec<(ConfigId, Option<Timestamp>)>,
    /// The epoch is not ours any more: nothing was claimed.
    pub deposed: bool,
}

/// Enough of a claimed row to publish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareRow {
    pub id: TaskId,
    pub config: ConfigId,
    pub version: i64,
    pub due_at: Timestamp,
}

impl From<&Task> for BareRow {
    fn from(task: &Task) -> Self {
        Self { id: task.id, config: task.config, version: task.version, due_at: task.due_at }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InFlightPage {
    pub rows: Vec<InFlight>,
    /// `None`: this was the last page.
    pub next: Option<FlightMark>,
}

/// The last row of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightMark {
    pub status: Status,
    pub due_at: Timestamp,
    pub id: TaskId,
}

impl From<&InFlight> for FlightMark {
    fn from(row: &InFlight) -> Self {
        Self { status: row.status, due_at: row.due_at, id: row.id }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    pub id: TaskId,
    pub config: ConfigId,
    pub status: Status,
    pub due_at: Timestamp,
    pub version: i64,
    pub epoch: i64,
    pub node: Option<NodeId>,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FireResult {
    Moved {
        cursor: Cursor,
        /// The tasks that were made.
        made: Vec<Box<Task>>,
        /// Slots that overlap `skip` left out.
        skipped: usize,
    },
    /// The cursor was moved by somebody else, or the config is newer or held: read both again.
    Stale,
    Deposed,
}

impl From<ScheduleStep> for FireResult {
    fn from(step: ScheduleStep) -> Self {
        let all = step.occurrences.len();
        let made: Vec<_> = step.occurrences.into_iter().filter_map(|new| new.task).collect();
        Self::Moved { cursor: step.cursor, skipped: all - made.len(), made }
    }
}

/// So many rows of a config are counted one by one; more are reported as this.
pub const COUNTED_MAX: i64 = 100_000;

/// A scheduled row this long after its due time makes the auditor ask why.
pub const OVERDUE_AFTER: Millis = Millis::from_secs(5);

/// Occurrences are kept this far below their cursor, for one that is computed again from an earlier time.
pub const OCCURRENCES_KEPT: Millis = Millis::from_days(1);

/// Records of processes that are gone. Whoever has none is dead, too.
pub const NODES_KEPT: Millis = Millis::from_days(30);

/// Sums for the auditor: `accepted = open + ended` must hold, whatever retention has dropped since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Tasks ever inserted; a replay counts as one more.
    pub accepted: i64,
    /// Tasks ever ended.
    pub ended: i64,
    /// Open rows by status code, counted.
    pub open: Vec<(Status, i64)>,
    /// Scheduled rows that are due more than five seconds ago, by config, at most [`COUNTED_MAX`] of each:
    /// the auditor asks why.
    pub overdue: Vec<(ConfigId, i64)>,
    /// Open rows of configs that are not there, as `overdue`: nobody will ever run them.
    pub orphans: Vec<(ConfigId, i64)>,
    pub cursors: Vec<Cursor>,
}
