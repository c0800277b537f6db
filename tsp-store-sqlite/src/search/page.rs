//! Search over open and ended tasks together.
//!
//! No way to find rows reads more than [`ROWS_READ_MAX`] of them in one call; a page that stops there says
//! where to go on. Small answers are gathered from the indexes whole ([`crate::search::gather`]); in order of time, rows are
//! merged from the indexes that hold that order ([`crate::search::merge`]); what is left is read in order of ids ([`crate::search::scan`]).

use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId};
use tsp_store::backend::row::good;
use tsp_store::backend::search::{Filter, Table};
use tsp_store::error::Result;
use tsp_store::search::{Bookmark, Order, Page, ROWS_READ_MAX, TaskQuery};

use crate::connection::session::Session;
use crate::search::{gather, merge, scan};
use crate::tasks::rows::{ended_task, open_task};

/// The scope is given as the configs it holds, in rising order.
pub(crate) fn search(conn: Session<'_>, query: &TaskQuery, configs: &[ConfigId]) -> Result<Page> {
    let search = Search { conn, filter: Filter::new(query, configs) };
    if search.filter.is_empty() {
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

pub(super) struct Search<'s> {
    pub(super) conn: Session<'s>,
    pub(super) filter: Filter<'s>,
}

impl Search<'_> {
    /// A bad row is reported and does not stop its neighbours.
    pub(super) fn load(&self, table: Table, id: TaskId) -> Result<Option<Task>> {
        let loaded = match table {
            Table::Open => open_task(self.conn, id),
            Table::Ended => ended_task(self.conn, id),
        };
        Ok(good(loaded)?.flatten())
    }

    /// A page of rows that are known to be all there are.
    pub(super) fn page_of(&self, found: Vec<(Table, TaskId)>) -> Result<Page> {
        let mut page = Page::default();
        let mut found = self.in_order(found)?.into_iter().peekable();
        while let Some((mark, table)) = found.next() {
            let task = self.load(table, mark.id)?;
            page.tasks.extend(task.filter(|task| self.filter.matches(task)));
            if page.tasks.len() >= self.filter.query.limit {
                page.next = found.peek().map(|_| mark);
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn in_order(&self, found: Vec<(Table, TaskId)>) -> Result<Vec<(Bookmark, Table)>> {
        let mut marks = Vec::with_capacity(found.len());
        for (table, id) in found {
            let at = match self.filter.query.order {
                Order::IdAsc | Order::IdDesc => Some(id.get()),
                Order::EndedDesc => self.load(table, id)?.map(|task| task.ended_at.unwrap_or_default().ms()),
                Order::DueAsc => self.load(table, id)?.map(|task| task.due_at.ms()),
            };
            let mark = at.map(|at| self.filter.mark(id, at));
            let asked_for = mark.filter(|mark| self.filter.is_after_bookmark(*mark));
            marks.extend(asked_for.map(|mark| (mark, table)));
        }
        marks.sort_unstable_by_key(|(mark, _)| std::cmp::Reverse(self.filter.rank(*mark)));
        Ok(marks)
    }
}

/// How many more rows this call may read.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn whole() -> Self {
        Self(ROWS_READ_MAX)
    }

    pub(super) fn spend(&mut self, rows: usize) {
        self.0 = self.0.saturating_sub(rows);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}
