//! Everything the store holds, for checkers.

use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::catalog::AuditEntry;
use tsp_store::fetching::{Cursor, Owner};

/// A copy of all rows, each list in the order of its ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    pub open: Vec<Task>,
    pub ended: Vec<Task>,
    /// Every attempt that was closed, by task, in the order of closing: an attempt that was closed twice
    /// is here twice.
    pub closed: Vec<AttemptRecord>,
    pub cursors: Vec<Cursor>,
    pub occurrences: Vec<Occurrence>,
    pub nodes: Vec<NodeRow>,
    /// Who holds the shards.
    pub owner: Option<Owner>,
    /// Oldest first.
    pub audit_log: Vec<AuditEntry>,
}

impl Ledger {
    /// The row of a task, open or ended.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.open.iter().chain(&self.ended).find(|task| task.id == id)
    }
}

/// The guard of one slot of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    pub config: ConfigId,
    pub execute_at: Timestamp,
    /// The task that was made for it; none when overlap left it out.
    pub task: Option<TaskId>,
    /// Made beyond the misfire grace.
    pub late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    pub id: NodeId,
    pub name: String,
    pub started_at: Timestamp,
    /// False once a later node has registered.
    pub alive: bool,
}
