//! What a search asks of a row, and the order that it wants.

use std::collections::HashSet;

use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{ConfigId, Millis, TaskId, Timestamp};

use crate::search::{Bookmark, Order, TaskQuery};

/// An id carries the time it was made at, which may run ahead of its task's creation by some minutes
/// (DESIGN.md section 5.5).
const ID_TIME_SLACK: Millis = Millis::from_hours(1);

/// Which table a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Open,
    Ended,
}

#[derive(Debug)]
pub struct Filter<'q> {
    pub query: &'q TaskQuery,
    /// The configs of the scope, in rising order.
    pub configs: &'q [ConfigId],
    scope: HashSet<ConfigId>,
}

impl<'q> Filter<'q> {
    pub fn new(query: &'q TaskQuery, configs: &'q [ConfigId]) -> Self {
        Self { query, configs, scope: configs.iter().copied().collect() }
    }

    /// Nothing can be found.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty() || !(self.wants_table(Table::Open) || self.wants_table(Table::Ended))
    }

    pub fn wants_table(&self, table: Table) -> bool {
        match table {
            Table::Open => Status::ALL.into_iter().any(|one| one != Status::Ended && self.wants(one)),
            Table::Ended => self.query.order != Order::DueAsc && self.names(Status::Ended),
        }
    }

    /// Whether open rows at `status` may be found.
    pub fn wants(&self, status: Status) -> bool {
        self.query.order != Order::EndedDesc && self.query.results.is_empty() && self.names(status)
    }

    fn names(&self, status: Status) -> bool {
        self.query.statuses.is_empty() || self.query.statuses.contains(&status)
    }

    pub fn descending(&self) -> bool {
        matches!(self.query.order, Order::IdDesc | Order::EndedDesc)
    }

    /// Higher ranks come first, whatever the order.
    pub fn rank(&self, mark: Bookmark) -> (i64, i64) {
        let pair = (mark.at, mark.id.get());
        if self.descending() { pair } else { (!pair.0, !pair.1) }
    }

    pub fn is_after_bookmark(&self, mark: Bookmark) -> bool {
        self.query.after.is_none_or(|after| self.rank(mark) < self.rank(after))
    }

    /// Nothing at or behind this mark is asked for.
    pub fn is_behind(&self, mark: Bookmark) -> bool {
        self.query.order == Order::DueAsc && self.query.due_to.is_some_and(|to| mark.at >= to.ms())
    }

    /// Where a row stands in the order asked for. `at`: when it is due, or when it ended.
    pub fn mark(&self, id: TaskId, at: i64) -> Bookmark {
        match self.query.order {
            Order::IdDesc | Order::IdAsc => Bookmark { at: id.get(), id },
            Order::EndedDesc | Order::DueAsc => Bookmark { at, id },
        }
    }

    /// Where reading starts: behind the bookmark, and not before the first due time asked for.
    pub fn start(&self) -> Bookmark {
        let query = self.query;
        if self.descending() {
            return query.after.unwrap_or(Bookmark { at: i64::MAX, id: TaskId::new(i64::MAX) });
        }
        let due_from = query.due_from.filter(|_| query.order == Order::DueAsc);
        let bottom = match due_from.and_then(|from| from.ms().checked_sub(1)) {
            Some(at) => Bookmark { at, id: TaskId::new(i64::MAX) },
            None => Bookmark { at: i64::MIN, id: TaskId::new(i64::MIN) },
        };
        match query.after {
            Some(after) if (after.at, after.id) > (bottom.at, bottom.id) => after,
            _ => bottom,
        }
    }

    /// The ids that can be in the answer: after the bookmark, and made about when the tasks asked for were created.
    pub fn ids(&self) -> IdRange {
        let query = self.query;
        let made_at = |at: Timestamp| TaskId::first_at(at).get();
        let start = query.created_from.map_or(i64::MIN, |from| made_at(from.minus(ID_TIME_SLACK)));
        let end = query.created_to.map_or(i64::MAX, |to| made_at(to.plus(ID_TIME_SLACK)));
        match query.after.map(|after| after.id.get()) {
            Some(after) if self.descending() => IdRange { start, end: end.min(after) },
            Some(after) => IdRange { start: start.max(after), end },
            None => IdRange { start, end },
        }
    }

    pub fn is_in_scope(&self, config: ConfigId) -> bool {
        self.scope.contains(&config)
    }

    pub fn is_in_time(&self, due_at: Timestamp, created_at: Timestamp) -> bool {
        let query = self.query;
        let within = |at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>| {
            from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
        };
        within(due_at, query.due_from, query.due_to)
            && within(created_at, query.created_from, query.created_to)
    }

    pub fn has_result(&self, result: Option<EndResult>) -> bool {
        self.query.results.is_empty() || result.is_some_and(|result| self.query.results.contains(&result))
    }

    pub fn matches(&self, task: &Task) -> bool {
        let query = self.query;
        self.is_in_scope(task.config)
            && self.names(task.status)
            && query.key.as_ref().is_none_or(|key| task.key.as_ref() == Some(key))
            && self.has_result(task.result)
            && self.is_in_time(task.due_at, task.created_at)
            && query.parent.is_none_or(|parent| task.parent == Some(parent))
    }
}

/// Both bounds are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub start: i64,
    pub end: i64,
}

impl IdRange {
    pub fn contains(self, id: i64) -> bool {
        self.start < id && id < self.end
    }
}
