//! Rows in order of time: a merge of the indexes that hold that order, one stream per config.

use std::collections::{BinaryHeap, VecDeque};

use tsp_core::task::Status;
use tsp_core::{ConfigId, TaskId};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::backend::search::Table;
use tsp_store::error::Result;
use tsp_store::search::{Bookmark, Order, Page, ROWS_READ_MAX};

use crate::connection::row::Row;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::search::page::{Budget, Search};

statements! {
    SCHEDULED = "-- merge_scheduled
    SELECT due_at, id FROM task WHERE config_id = ?1 AND phase = 0 AND (due_at, id) > (?2, ?3)
    ORDER BY due_at, id LIMIT ?4"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=? AND due_at>?)";

    PAUSED = "-- merge_paused
    SELECT due_at, id FROM task WHERE config_id = ?1 AND phase = 2 AND (due_at, id) > (?2, ?3)
    ORDER BY due_at, id LIMIT ?4"
        => "SEARCH task USING COVERING INDEX task_paused (config_id=? AND due_at>?)";

    /// Of all configs, so `?1` only stands in its place.
    AWAITING = "-- merge_awaiting
    SELECT due_at, id FROM task WHERE phase = 3 AND ?1 = ?1 AND (due_at, id) > (?2, ?3)
    ORDER BY due_at, id LIMIT ?4"
        => "SEARCH task USING COVERING INDEX task_awaiting (due_at>?)";

    ENDED = "-- merge_ended
    SELECT ended_at, id FROM history WHERE config_id = ?1 AND (ended_at, id) < (?2, ?3)
    ORDER BY ended_at DESC, id DESC LIMIT ?4"
        => "SEARCH history USING COVERING INDEX history_ended (config_id=? AND ended_at<?)";

    /// What is in flight is little, and in no order of time.
    BUSY = "-- merge_busy\nSELECT due_at, id, config_id FROM task WHERE phase = 1"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    SCHEDULED_CONFIG = "-- merge_scheduled_config
    SELECT config_id FROM task WHERE phase = 0 AND config_id > ?1 ORDER BY config_id LIMIT 1"
        => "SEARCH task USING COVERING INDEX task_claim (config_id>?)";

    PAUSED_CONFIG = "-- merge_paused_config
    SELECT config_id FROM task WHERE phase = 2 AND config_id > ?1 ORDER BY config_id LIMIT 1"
        => "SEARCH task USING COVERING INDEX task_paused (config_id>?)";

    ENDED_CONFIG = "-- merge_ended_config
    SELECT config_id FROM history WHERE config_id > ?1 ORDER BY config_id LIMIT 1"
        => "SEARCH history USING COVERING INDEX history_ended (config_id>?)";
}

/// Up to this many configs each get their seek; of more, those that have rows are looked up first.
const CONFIGS_SOUGHT: usize = 64;
/// Entries that a stream reads at once, once it has proved to be asked for.
const CHUNK_MAX: usize = 64;

pub(super) fn page(search: &Search<'_>) -> Result<Page> {
    let mut merge = Merge::start(search)?;
    let mut page = Page::default();
    let mut budget = Budget::whole();
    while let Some(mark) = merge.pop()? {
        if search.filter.is_behind(mark) {
            return Ok(page);
        }
        let table = if search.filter.query.order == Order::EndedDesc { Table::Ended } else { Table::Open };
        let task = search.load(table, mark.id)?;
        page.tasks.extend(task.filter(|task| search.filter.matches(task)));
        budget.spend(2);
        if page.tasks.len() >= search.filter.query.limit || budget.is_spent() {
            page.next = merge.has_more().then_some(mark);
            return Ok(page);
        }
    }
    Ok(page)
}

struct Merge<'a, 's> {
    search: &'a Search<'s>,
    streams: Vec<Stream>,
    /// The rank of each stream's first entry, and its number.
    firsts: BinaryHeap<((i64, i64), usize)>,
}

impl<'a, 's> Merge<'a, 's> {
    fn start(search: &'a Search<'s>) -> Result<Self> {
        let mut merge = Self { search, streams: Vec::new(), firsts: BinaryHeap::new() };
        let from = search.filter.start();
        if search.filter.query.order == Order::EndedDesc {
            merge.add_per_config(ENDED, ENDED_CONFIG, from)?;
            return Ok(merge);
        }
        if search.filter.wants(Status::Scheduled) {
            merge.add_per_config(SCHEDULED, SCHEDULED_CONFIG, from)?;
        }
        if search.filter.wants(Status::Paused) {
            merge.add_per_config(PAUSED, PAUSED_CONFIG, from)?;
        }
        if search.filter.wants(Status::Awaiting) {
            merge.add(Stream::new(AWAITING, ConfigId::default(), from))?;
        }
        if search.filter.wants(Status::Queued) || search.filter.wants(Status::Executing) {
            let busy = merge.busy(from)?;
            merge.add(busy)?;
        }
        Ok(merge)
    }

    fn add_per_config(&mut self, sql: &'static str, config_sql: &str, from: Bookmark) -> Result<()> {
        for config in configs_with_rows(self.search, config_sql)? {
            self.add(Stream::new(sql, config, from))?;
        }
        Ok(())
    }

    fn add(&mut self, mut stream: Stream) -> Result<()> {
        stream.fill(self.search.conn)?;
        if let Some(first) = stream.buffer.front() {
            self.firsts.push((self.search.filter.rank(*first), self.streams.len()));
            self.streams.push(stream);
        }
        Ok(())
    }

    fn busy(&self, from: Bookmark) -> Result<Stream> {
        let mut statement = self.search.conn.prepare(BUSY)?;
        let rows = statement.all([], |row| {
            let mark = Bookmark { at: row.get(0)?, id: TaskId::new(row.get(1)?) };
            Ok((mark, ConfigId::new(row.get(2)?)))
        })?;
        let ours = rows.into_iter().filter(|(_, config)| self.search.filter.is_in_scope(*config));
        let mut marks: Vec<Bookmark> =
            ours.map(|(mark, _)| mark).filter(|mark| (mark.at, mark.id) > (from.at, from.id)).collect();
        marks.sort_unstable_by_key(|mark| (mark.at, mark.id));
        Ok(Stream { dry: true, buffer: marks.into(), ..Stream::new(BUSY, ConfigId::default(), from) })
    }

    /// The next row of all streams.
    fn pop(&mut self) -> Result<Option<Bookmark>> {
        let Some((_, number)) = self.firsts.pop() else { return Ok(None) };
        let stream = &mut self.streams[number];
        let mark = stream.buffer.pop_front();
        stream.fill(self.search.conn)?;
        if let Some(first) = stream.buffer.front() {
            self.firsts.push((self.search.filter.rank(*first), number));
        }
        Ok(mark)
    }

    fn has_more(&self) -> bool {
        !self.firsts.is_empty()
    }
}

/// The configs of the scope that are worth a seek.
fn configs_with_rows(search: &Search<'_>, sql: &str) -> Result<Vec<ConfigId>> {
    if search.filter.configs.len() <= CONFIGS_SOUGHT {
        return Ok(search.filter.configs.to_vec());
    }
    let mut statement = search.conn.prepare(sql)?;
    let mut after = i64::MIN;
    let mut found = Vec::new();
    while let Some(config) = statement.first([after], |row| row.get::<i64>(0))? {
        after = config;
        let config = ConfigId::new(config);
        if search.filter.is_in_scope(config) {
            found.push(config);
        }
    }
    Ok(found)
}

/// The entries of one index under one config, in order.
struct Stream {
    sql: &'static str,
    config: ConfigId,
    /// The last entry that was read.
    last: Bookmark,
    buffer: VecDeque<Bookmark>,
    chunk: usize,
    dry: bool,
}

impl Stream {
    fn new(sql: &'static str, config: ConfigId, from: Bookmark) -> Self {
        // Most of many streams are asked for one entry only.
        Self { sql, config, last: from, buffer: VecDeque::new(), chunk: 2, dry: false }
    }

    /// Reads on when nothing is left.
    fn fill(&mut self, conn: Session<'_>) -> Result<()> {
        if self.dry || !self.buffer.is_empty() {
            return Ok(());
        }
        let limit = sql_limit(self.chunk.min(ROWS_READ_MAX));
        let after = [self.config.get(), self.last.at, self.last.id.get(), limit];
        let read = |row: &Row<'_>| Ok(Bookmark { at: row.get(0)?, id: TaskId::new(row.get(1)?) });
        self.buffer = conn.prepare(self.sql)?.all(after, read)?.into();
        self.dry = self.buffer.len() < self.chunk;
        self.chunk = (self.chunk * 4).min(CHUNK_MAX);
        if let Some(last) = self.buffer.back() {
            self.last = *last;
        }
        Ok(())
    }
}
