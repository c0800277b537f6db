//! The entries of one index of one shard, in order.

use std::collections::VecDeque;

use tsp_core::task::{EndResult, Phase, Status};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::backend::search::{IdRange, Table};
use tsp_store::error::Result;
use tsp_store::search::Bookmark;

use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::search::page::{Entry, Search};
use crate::tasks::rows::ended_from;

/// Open rows of one config in one phase, by due time.
const DUE: &str = "-- search_due
SELECT due_at, id FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = ? AND due_at >= ? AND (due_at > ? OR id > ?)
ORDER BY due_at, id LIMIT ?";
/// Only those of one status.
const DUE_AT: &str = "-- search_due_at
SELECT due_at, id FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = ? AND status = ? AND due_at >= ? AND (due_at > ? OR id > ?)
ORDER BY due_at, id LIMIT ?";

/// Ended rows of one config, latest first.
const ENDED: &str = "-- search_ended_at
SELECT ended_at, id FROM history_{shard} FORCE INDEX (ended)
WHERE config_id = ? AND ended_at <= ? AND (ended_at < ? OR id < ?)
ORDER BY ended_at DESC, id DESC LIMIT ?";

const OPEN_DOWN: &str = "-- search_scan_open_down
SELECT id, config_id, due_at, created_at, status FROM task_{shard} WHERE id < ? AND id > ?
ORDER BY id DESC LIMIT ?";
const OPEN_UP: &str = "-- search_scan_open_up
SELECT id, config_id, due_at, created_at, status FROM task_{shard} WHERE id > ? AND id < ?
ORDER BY id LIMIT ?";
const ENDED_DOWN: &str = "-- search_scan_ended_down
SELECT id, config_id, due_at, created_at, result, ended_at FROM history_{shard}
WHERE id < ? AND id > ? AND ended_at >= ? ORDER BY id DESC LIMIT ?";
const ENDED_UP: &str = "-- search_scan_ended_up
SELECT id, config_id, due_at, created_at, result, ended_at FROM history_{shard}
WHERE id > ? AND id < ? AND ended_at >= ? ORDER BY id LIMIT ?";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 7] = [DUE, DUE_AT, ENDED, OPEN_DOWN, OPEN_UP, ENDED_DOWN, ENDED_UP];

/// Which index is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Due(ConfigId, Phase),
    DueAt(ConfigId, Phase, Status),
    Ended(ConfigId),
    /// All rows of a table by their ids, most of them perhaps of others.
    Scan(Table, IdRange),
    /// What it holds is all there is.
    Whole,
}

pub(super) struct Stream {
    /// Its shard, of the list of the search.
    pub(super) on: Option<ShardDb>,
    kind: Kind,
    /// The last entry that was read, or where it starts.
    last: Bookmark,
    pub(super) buffer: VecDeque<Entry>,
    chunk: usize,
    dry: bool,
}

impl Stream {
    pub(super) fn new(on: ShardDb, kind: Kind, from: Bookmark, chunk: usize) -> Self {
        Self { on: Some(on), kind, last: from, buffer: VecDeque::new(), chunk: chunk.max(2), dry: false }
    }

    pub(super) fn whole(entries: Vec<Entry>) -> Self {
        let last = Bookmark { at: 0, id: TaskId::default() };
        Self { on: None, kind: Kind::Whole, last, buffer: entries.into(), chunk: 0, dry: true }
    }

    pub(super) fn must_read(&self) -> bool {
        self.buffer.is_empty() && !self.dry
    }

    /// Reads on when nothing is left.
    pub(super) async fn fill(&mut self, tx: &mut Tx<'_>, search: &Search<'_>) -> Result<()> {
        let Some(on) = self.on.clone().filter(|_| self.must_read()) else { return Ok(()) };
        let limit = sql_limit(self.chunk);
        let (at, id) = (self.last.at, self.last.id.get());
        let statement = match self.kind {
            Kind::Due(config, phase) => {
                let due = query(&on.sql(DUE)).bind(config.get()).bind(phase.code());
                due.bind(at).bind(at).bind(id).bind(limit)
            }
            Kind::DueAt(config, phase, status) => {
                let due = query(&on.sql(DUE_AT)).bind(config.get()).bind(phase.code()).bind(status.code());
                due.bind(at).bind(at).bind(id).bind(limit)
            }
            Kind::Ended(config) => {
                query(&on.sql(ENDED)).bind(config.get()).bind(at).bind(at).bind(id).bind(limit)
            }
            Kind::Scan(Table::Open, ids) if search.filter.descending() => {
                query(&on.sql(OPEN_DOWN)).bind(ids.end.min(id)).bind(ids.start).bind(limit)
            }
            Kind::Scan(Table::Open, ids) => {
                query(&on.sql(OPEN_UP)).bind(ids.start.max(id)).bind(ids.end).bind(limit)
            }
            Kind::Scan(Table::Ended, ids) if search.filter.descending() => {
                let (end, start) = (ids.end.min(id), ids.start);
                query(&on.sql(ENDED_DOWN)).bind(end).bind(start).bind(ended_after(start)).bind(limit)
            }
            Kind::Scan(Table::Ended, ids) => {
                let (start, end) = (ids.start.max(id), ids.end);
                query(&on.sql(ENDED_UP)).bind(start).bind(end).bind(ended_after(start)).bind(limit)
            }
            Kind::Whole => return Ok(()),
        };
        let rows = statement.fetch_all(tx.conn()).await?;
        self.dry = rows.len() < self.chunk;
        self.chunk = (self.chunk * 4).min(ROWS_MAX);
        for row in &rows {
            self.buffer.push_back(self.entry(row, search)?);
        }
        if let Some(last) = self.buffer.back() {
            self.last = last.mark;
        }
        Ok(())
    }

    fn entry(&self, row: &Row, search: &Search<'_>) -> Result<Entry> {
        if let Kind::Scan(table, _) = self.kind {
            return scanned(row, table, search);
        }
        let (at, id) = (row.get(0)?, TaskId::new(row.get(1)?));
        let table = if matches!(self.kind, Kind::Ended(_)) { Table::Ended } else { Table::Open };
        Ok(Entry { mark: Bookmark { at, id }, table, ended_at: at, skipped: false })
    }
}

/// What ended before the first of these ids was made is none of them.
fn ended_after(start: i64) -> i64 {
    if start > 0 { ended_from(TaskId::new(start)).ms() } else { i64::MIN }
}

fn scanned(row: &Row, table: Table, search: &Search<'_>) -> Result<Entry> {
    let id: i64 = row.get(0)?;
    let code: i64 = row.get(4)?;
    let due_at = Timestamp::from_ms(row.get(2)?);
    let created_at = Timestamp::from_ms(row.get(3)?);
    let (wanted, ended_at) = match table {
        Table::Open => (Status::from_code(code).is_none_or(|status| search.filter.wants(status)), 0),
        // An unknown code is reported when the row is loaded.
        Table::Ended => {
            let result = EndResult::from_code(code);
            (result.is_none() || search.filter.has_result(result), row.get(5)?)
        }
    };
    let in_scope = search.filter.is_in_scope(ConfigId::new(row.get(1)?));
    Ok(Entry {
        mark: Bookmark { at: id, id: TaskId::new(id) },
        table,
        ended_at,
        skipped: !(in_scope && wanted && search.filter.is_in_time(due_at, created_at)),
    })
}
