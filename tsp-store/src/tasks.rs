//! What callers do with tasks.

use async_trait::async_trait;
use tsp_core::config::OnDuplicateKey;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::submit::{ReopenRefusal, SubmitRefusal};
use tsp_core::transition::{OutcomeDetail, Refusal};
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};

use crate::error::Result;
use crate::idempotency::{IdempotencyRequest, IdempotencyResult};
use crate::search::{Page, TaskQuery};

pub use tsp_core::transition::TaskCommand;

#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Saves new tasks durably; the answers are in the order of `batch`, and each element stands alone. An id
    /// that another task has is a fault of ours: it fails the call, and it is unknown what else of it was
    /// saved.
    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>>;

    /// Open or ended.
    async fn task(&self, id: TaskId) -> Result<Option<Task>>;

    /// The canonical open task of a key, else its latest ended one.
    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>>;

    /// Applies a command of an operator or receiver to one task: compare-and-set by version, retried here.
    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult>;

    /// Cancels up to `limit` open tasks of a config, of each shard the scheduled ones first, then the paused, awaiting,
    /// queued and executing; says how many were cancelled and how many are left.
    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CancelCount>;

    async fn search(&self, query: TaskQuery) -> Result<Page>;

    /// All closed attempts of a task, oldest first, the single successful one included.
    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>>;
}

/// One task to be made.
#[derive(Debug)]
pub struct Submit {
    /// As `Task::new` made it: scheduled, `key_slot` 0.
    pub task: Box<Task>,
    pub on_duplicate: OnDuplicateKey,
    /// Whether the submitter gave a payload (a reset moves it) or the config's default stands in it.
    pub own_payload: bool,
    pub idempotency: Option<IdempotencyRequest<SubmitOutcome>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SubmitOutcome {
    Created(Box<Task>),
    /// An open task holds the key; it is unchanged.
    Existing(Box<Task>),
    /// An open task holds the key and took the new time, after its running attempt if `after_current`.
    Reset {
        task: Box<Task>,
        after_current: bool,
    },
    /// Refused: the config is disabled, in the moment of the commit.
    ConfigDisabled,
    /// Refused: the config was deleted.
    ConfigGone,
    /// Refused: the config's span was changed since the task's id was made, which names a shard that is not
    /// the home of its key any more.
    NotAtHome,
}

impl From<SubmitRefusal> for SubmitOutcome {
    fn from(refusal: SubmitRefusal) -> Self {
        match refusal {
            SubmitRefusal::ConfigGone => Self::ConfigGone,
            SubmitRefusal::ConfigDisabled => Self::ConfigDisabled,
            SubmitRefusal::NotAtHome => Self::NotAtHome,
        }
    }
}

/// Which task is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Id(TaskId),
    /// The canonical open task of the key, else the latest ended one.
    Key(ConfigId, TaskKey),
}

#[derive(Debug, Clone, PartialEq)]
pub enum CommandResult {
    Done {
        task: Box<Task>,
        outcome_detail: OutcomeDetail,
    },
    /// Nothing changed, and why. `KeyInUse` is apart because only the store can see it.
    Refused {
        task: Box<Task>,
        why: Refusal,
    },
    /// A replay while another open task holds the key.
    KeyInUse {
        holder: TaskId,
    },
    /// A replay while the config is disabled: it takes no tasks.
    ConfigDisabled,
    NotFound,
}

impl From<ReopenRefusal> for CommandResult {
    fn from(refusal: ReopenRefusal) -> Self {
        match refusal {
            ReopenRefusal::ConfigGone => Self::NotFound,
            ReopenRefusal::ConfigDisabled => Self::ConfigDisabled,
            ReopenRefusal::KeyInUse { holder } => Self::KeyInUse { holder },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CancelCount {
    pub cancelled: usize,
    /// Still open: executing ones, flagged so that their attempt is the last, and those beyond the limit.
    pub left: usize,
}

/// Who did it, for the audit log: `key:17`, `user:ann`, `cli`, `system`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

impl Actor {
    pub fn system() -> Self {
        Self("system".to_owned())
    }
}
