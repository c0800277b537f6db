//! Rows of both tables in order of their ids, one after the other.

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Row, Rows};
use tsp_core::task::Task;
use tsp_core::{ConfigId, Millis, TaskId, Timestamp};

use crate::error::{Result, StoreError};
use crate::search::{Bookmark, Page};

use super::super::row::{ended_columns, open_columns, read_task};
use super::{Budget, Search};

const OPEN_DOWN: &str =
    concat!("-- scan_open_down\nSELECT ", open_columns!(), " FROM task WHERE id < ?1 ORDER BY id DESC");
const OPEN_UP: &str =
    concat!("-- scan_open_up\nSELECT ", open_columns!(), " FROM task WHERE id > ?1 ORDER BY id");
const ENDED_DOWN: &str =
    concat!("-- scan_ended_down\nSELECT ", ended_columns!(), " FROM history WHERE id < ?1 ORDER BY id DESC");
const ENDED_UP: &str =
    concat!("-- scan_ended_up\nSELECT ", ended_columns!(), " FROM history WHERE id > ?1 ORDER BY id");

/// An id carries the time it was made at, which may run ahead of its task's creation by some minutes
/// (DESIGN.md section 5.5).
const ID_TIME_SLACK: Millis = Millis::from_hours(1);

pub(super) fn page(search: &Search<'_>) -> Result<Page> {
    let down = search.descending();
    let range = id_range(search);
    let start = if down { range.end } else { range.start };
    let mut open = search.conn.prepare_cached(if down { OPEN_DOWN } else { OPEN_UP })?;
    let mut ended = search.conn.prepare_cached(if down { ENDED_DOWN } else { ENDED_UP })?;
    let mut sides = [
        Side::start(search.wants_open().then(|| open.query([start])).transpose()?)?,
        Side::start(search.wants_ended().then(|| ended.query([start])).transpose()?)?,
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
        if page.tasks.len() >= search.query.limit || budget.is_spent() {
            let more = sides.iter().any(|side| side.next.is_some());
            page.next = more.then_some(Bookmark { at: id, id: TaskId::new(id) });
            return Ok(page);
        }
    }
}

/// The ids that can be in the answer, both bounds exclusive: after the bookmark, and made about when the
/// tasks asked for were created.
fn id_range(search: &Search<'_>) -> IdRange {
    let query = search.query;
    let made_at = |at: Timestamp| TaskId::first_at(at).get();
    let start = query.created_from.map_or(i64::MIN, |from| made_at(from.minus(ID_TIME_SLACK)));
    let end = query.created_to.map_or(i64::MAX, |to| made_at(to.plus(ID_TIME_SLACK)));
    match query.after.map(|after| after.id.get()) {
        Some(after) if search.descending() => IdRange { start, end: end.min(after) },
        Some(after) => IdRange { start: start.max(after), end },
        None => IdRange { start, end },
    }
}

struct IdRange {
    start: i64,
    end: i64,
}

impl IdRange {
    fn contains(&self, id: i64) -> bool {
        self.start < id && id < self.end
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

    fn row(&self) -> Option<&Row<'r>> {
        self.rows.as_ref().and_then(|rows| rows.get())
    }

    /// The row it stands at, if it is one of those asked for.
    fn read(&self, search: &Search<'_>) -> Result<Option<Task>> {
        let Some(row) = self.row() else { return Ok(None) };
        // Most rows of a busy store are of other configs; they are skipped without being read.
        if !search.scope.contains(&ConfigId::new(row.get(1)?)) {
            return Ok(None);
        }
        match read_task(row) {
            Ok(task) => Ok(Some(task).filter(|task| search.matches(task))),
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, "a row was skipped");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [OPEN_DOWN, OPEN_UP, ENDED_DOWN, ENDED_UP];
