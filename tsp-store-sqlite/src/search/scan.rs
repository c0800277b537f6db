//! Rows of both tables in order of their ids, one after the other.

use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId};
use tsp_store::backend::columns::{ended_columns, open_columns};
use tsp_store::backend::row::{good, read_task};
use tsp_store::backend::search::Table;
use tsp_store::error::Result;
use tsp_store::search::{Bookmark, Page};

use crate::connection::session::Rows;
use crate::connection::statements::statements;
use crate::search::page::{Budget, Search};

statements! {
    OPEN_DOWN = concat!("-- scan_open_down\nSELECT ", open_columns!("key"), " FROM task WHERE id < ?1 ORDER BY id DESC")
        => "SEARCH task USING INTEGER PRIMARY KEY (rowid<?)";

    OPEN_UP = concat!("-- scan_open_up\nSELECT ", open_columns!("key"), " FROM task WHERE id > ?1 ORDER BY id")
        => "SEARCH task USING INTEGER PRIMARY KEY (rowid>?)";

    ENDED_DOWN = concat!(
        "-- scan_ended_down\nSELECT ",
        ended_columns!("key"),
        " FROM history WHERE id < ?1 ORDER BY id DESC"
    )
        => "SEARCH history USING INTEGER PRIMARY KEY (rowid<?)";

    ENDED_UP = concat!("-- scan_ended_up\nSELECT ", ended_columns!("key"), " FROM history WHERE id > ?1 ORDER BY id")
        => "SEARCH history USING INTEGER PRIMARY KEY (rowid>?)";
}

pub(super) fn page(search: &Search<'_>) -> Result<Page> {
    let down = search.filter.descending();
    let range = search.filter.ids();
    let start = if down { range.end } else { range.start };
    let mut open = search.conn.prepare(if down { OPEN_DOWN } else { OPEN_UP })?;
    let mut ended = search.conn.prepare(if down { ENDED_DOWN } else { ENDED_UP })?;
    let mut sides = [
        Side::start(search.filter.wants_table(Table::Open).then(|| open.rows([start])).transpose()?)?,
        Side::start(search.filter.wants_table(Table::Ended).then(|| ended.rows([start])).transpose()?)?,
    ];
    let mut page = Page::default();
    let mut budget = Budget::whole();
    loop {
        let [open, ended] = &mut sides;
        let side = match (open.next, ended.next) {
            (None, None) => return Ok(page),
            (None, Some(_)) => ended,
            (Some(at_open), Some(at_ended)) if (at_open > at_ended) != down => ended,
            _ => open,
        };
        let Some(id) = side.next.filter(|id| range.contains(*id)) else { return Ok(page) };
        if let Some(task) = side.read(search)? {
            page.tasks.push(task);
        }
        budget.spend(1);
        side.step()?;
        if page.tasks.len() >= search.filter.query.limit || budget.is_spent() {
            let more = sides.iter().any(|side| side.next.is_some());
            page.next = more.then_some(Bookmark { at: id, id: TaskId::new(id) });
            return Ok(page);
        }
    }
}

/// One table, standing at its next row.
struct Side<'r> {
    rows: Option<Rows<'r>>,
    next: Option<i64>,
}

impl<'r> Side<'r> {
    fn start(rows: Option<Rows<'r>>) -> Result<Self> {
        let mut side = Self { rows, next: None };
        side.step()?;
        Ok(side)
    }

    fn step(&mut self) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        self.next = rows.next()?.map(|row| row.get(0)).transpose()?;
        Ok(())
    }

    /// The row it stands at, if it is one of those asked for.
    fn read(&self, search: &Search<'_>) -> Result<Option<Task>> {
        let Some(row) = self.rows.as_ref().and_then(Rows::current) else { return Ok(None) };
        // Most rows of a busy store are of other configs; they are skipped without being read.
        if !search.filter.is_in_scope(ConfigId::new(row.get(1)?)) {
            return Ok(None);
        }
        Ok(good(read_task(&row))?.filter(|task| search.filter.matches(task)))
    }
}
