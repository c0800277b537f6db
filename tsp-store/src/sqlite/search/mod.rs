//! Search over open and ended tasks together.
//!
//! No way to find rows reads more than [`ROWS_READ_MAX`] of them in one call; a page that stops there says
//! where to go on. Small answers are gathered from the indexes whole ([`gather`]); in order of time, rows are
//! merged from the indexes that hold that order ([`merge`]); what is left is read in order of ids ([`scan`]).

mod gather;
mod merge;
mod scan;

use std::collections::HashSet;

use rusqlite::Connection;
use tsp_core::task::{Status, Task};
use tsp_core::{ConfigId, TaskId, Timestamp};

use crate::error::{Result, StoreError};
use crate::search::{Bookmark, Order, Page, ROWS_READ_MAX, TaskQuery};

use super::task_rows::{ended_task, open_task};

/// The scope is given as the configs it holds, in rising order.
pub(super) fn search(conn: &Connection, query: &TaskQuery, configs: &[ConfigId]) -> Result<Page> {
    let search = Search { conn, query, configs, scope: configs.iter().copied().collect() };
    if configs.is_empty() || (!search.wants_ended() && !search.wants_open()) {
        return Ok(Page::default());
    }
    if let Some(found) = gather::gather(&search)? {
        return search.page_of(found);
    }
    match query.order {
        Order::IdAsc | Order::IdDesc => scan::page(&search),
        Order::EndedDesc | Order::DueAsc => merge::page(&search),
    }
}

/// Which table a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Table {
    Open,
    Ended,
}

struct Search<'s> {
    conn: &'s Connection,
    query: &'s TaskQuery,
    configs: &'s [ConfigId],
    scope: HashSet<ConfigId>,
}

impl Search<'_> {
    fn wants_ended(&self) -> bool {
        self.query.order != Order::DueAsc && self.names(Status::Ended)
    }

    fn wants_open(&self) -> bool {
        let open = Status::ALL.into_iter().filter(|status| *status != Status::Ended);
        open.into_iter().any(|status| self.wants(status))
    }

    /// Whether open rows at `status` may be found.
    fn wants(&self, status: Status) -> bool {
        self.query.order != Order::EndedDesc && self.query.results.is_empty() && self.names(status)
    }

    fn names(&self, status: Status) -> bool {
        self.query.statuses.is_empty() || self.query.statuses.contains(&status)
    }

    fn descending(&self) -> bool {
        matches!(self.query.order, Order::IdDesc | Order::EndedDesc)
    }

    /// Larger comes first, whatever the order.
    fn rank(&self, mark: Bookmark) -> (i64, i64) {
        let pair = (mark.at, mark.id.get());
        if self.descending() { pair } else { (!pair.0, !pair.1) }
    }

    fn is_after_bookmark(&self, mark: Bookmark) -> bool {
        self.query.after.is_none_or(|after| self.rank(mark) < self.rank(after))
    }

    fn load(&self, table: Table, id: TaskId) -> Result<Option<Task>> {
        let loaded = match table {
            Table::Open => open_task(self.conn, id),
            Table::Ended => ended_task(self.conn, id),
        };
        match loaded {
            // A bad row is reported and does not stop its neighbours.
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, "a row was skipped");
                Ok(None)
            }
            other => other,
        }
    }

    /// The position of a row in the order asked for.
    fn mark(&self, task: &Task) -> Bookmark {
        let at = match self.query.order {
            Order::IdDesc | Order::IdAsc => task.id.get(),
            Order::EndedDesc => task.ended_at.unwrap_or_default().ms(),
            Order::DueAsc => task.due_at.ms(),
        };
        Bookmark { at, id: task.id }
    }

    fn matches(&self, task: &Task) -> bool {
        let query = self.query;
        let within = |at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>| {
            from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
        };
        self.scope.contains(&task.config)
            && self.names(task.status)
            && query.key.as_ref().is_none_or(|key| task.key.as_ref() == Some(key))
            && (query.results.is_empty() || task.result.is_some_and(|result| query.results.contains(&result)))
            && within(task.due_at, query.due_from, query.due_to)
            && within(task.created_at, query.created_from, query.created_to)
            && query.parent.is_none_or(|parent| task.parent == Some(parent))
    }

    /// A page of rows that are known to be all there are.
    fn page_of(&self, found: Vec<(Table, TaskId)>) -> Result<Page> {
        let mut page = Page::default();
        let mut found = self.in_order(found)?.into_iter().peekable();
        while let Some((mark, table)) = found.next() {
            let task = self.load(table, mark.id)?;
            page.tasks.extend(task.filter(|task| self.matches(task)));
            if page.tasks.len() >= self.query.limit {
                page.next = found.peek().map(|_| mark);
                break;
            }
        }
        Ok(page)
    }

    fn in_order(&self, found: Vec<(Table, TaskId)>) -> Result<Vec<(Bookmark, Table)>> {
        let mut marks = Vec::with_capacity(found.len());
        for (table, id) in found {
            let mark = match self.query.order {
                Order::IdAsc | Order::IdDesc => Some(Bookmark { at: id.get(), id }),
                Order::EndedDesc | Order::DueAsc => self.load(table, id)?.map(|task| self.mark(&task)),
            };
            marks.extend(mark.filter(|mark| self.is_after_bookmark(*mark)).map(|mark| (mark, table)));
        }
        marks.sort_unstable_by_key(|(mark, _)| std::cmp::Reverse(self.rank(*mark)));
        Ok(marks)
    }
}

/// How many more rows this call may read.
struct Budget(usize);

impl Budget {
    fn whole() -> Self {
        Self(ROWS_READ_MAX)
    }

    fn spend(&mut self, rows: usize) {
        self.0 = self.0.saturating_sub(rows);
    }

    fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// For the golden plans.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = &'static str> {
    gather::statements().chain(merge::STATEMENTS).chain(scan::STATEMENTS)
}
