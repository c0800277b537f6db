//! Search over open and ended tasks together.

use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{AppId, ConfigId, TaskId, TaskKey, Timestamp};

/// A call reads at most this many rows, so a page may be short and still have a `next` (API.md section 1).
pub const ROWS_READ_MAX: usize = 20_000;

#[derive(Debug, Clone, PartialEq)]
pub struct TaskQuery {
    pub scope: Scope,
    pub key: Option<TaskKey>,
    /// Empty: any. `Ended` among them means rows of history.
    pub statuses: Vec<Status>,
    /// Empty: any. Not empty: ended tasks only.
    pub results: Vec<EndResult>,
    /// Half-open: from inclusive, to exclusive.
    pub due_from: Option<Timestamp>,
    pub due_to: Option<Timestamp>,
    pub created_from: Option<Timestamp>,
    pub created_to: Option<Timestamp>,
    pub parent: Option<TaskId>,
    pub order: Order,
    pub after: Option<Bookmark>,
    /// 1..=500.
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    App(AppId),
    Config(ConfigId),
    /// In any order.
    Configs(Vec<ConfigId>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    IdDesc,
    IdAsc,
    /// Ended tasks only, latest first.
    EndedDesc,
    /// Open tasks only, earliest first.
    DueAsc,
}

/// Where the last page stopped: the ordering value of its last row, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    pub at: i64,
    pub id: TaskId,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    pub tasks: Vec<Task>,
    /// `Some` while there may be more, even when `tasks` is short or empty.
    pub next: Option<Bookmark>,
}
