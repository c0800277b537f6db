//! Entries of many streams in one order.

use std::collections::BinaryHeap;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use tsp_core::ConfigId;
use tsp_core::task::{Phase, Status};
use tsp_store::backend::search::Table;
use tsp_store::error::Result;
use tsp_store::search::Order;

use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::search::page::{Entry, Search};
use crate::search::stream::{Kind, Stream};

/// Whether the config `c` has a row in this phase.
macro_rules! has_rows {
    ($phase:literal) => {
        concat!(
            "(SELECT 1 FROM task_{shard} AS t FORCE INDEX (claim) WHERE t.config_id = c.config_id AND t.phase = ",
            $phase,
            " LIMIT 1)"
        )
    };
}

/// Which configs have open rows, and in which of [`Phase::ALL`].
const PHASES: &str = concat!(
    "-- search_phases\nSELECT c.config_id, ",
    has_rows!(0),
    ", ",
    has_rows!(1),
    ", ",
    has_rows!(2),
    ", ",
    has_rows!(3),
    "\nFROM (SELECT DISTINCT config_id FROM task_{shard} FORCE INDEX (claim)) AS c"
);

/// Which configs have ended rows: the first column of the index by time.
const ENDED_CONFIGS: &str =
    "-- search_ended_configs\nSELECT config_id FROM history_{shard} GROUP BY config_id";

/// Up to this many configs each get their seek; of more, those that have rows are looked up first.
const CONFIGS_SOUGHT: usize = if cfg!(test) { 1 } else { 16 };
/// So many shards are asked at the same time.
const SHARDS_AT_ONCE: usize = 8;
/// What each stream reads at first, when there are many: most are asked for one entry only.
const CHUNK_OF_MANY: usize = 4;
const STREAMS_FEW: usize = 32;

pub(super) struct Merge<'s> {
    search: &'s Search<'s>,
    streams: Vec<Stream>,
    /// The rank of each stream's first entry, and its number.
    firsts: BinaryHeap<((i64, i64), usize)>,
}

impl<'s> Merge<'s> {
    /// Of entries that are known to be all there are.
    pub(super) fn of(search: &'s Search<'s>, mut entries: Vec<Entry>) -> Self {
        entries.retain(|entry| search.filter.is_after_bookmark(entry.mark));
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(search.filter.rank(entry.mark)));
        Self::over(search, vec![Stream::whole(entries)])
    }

    /// Of the indexes that hold the order asked for, each read up to its first entries.
    pub(super) async fn start(search: &'s Search<'s>) -> Result<Self> {
        let started = search.shards().map(|(table, on)| start_on(search, table, on));
        let streams: Vec<Vec<Stream>> =
            stream::iter(started.collect::<Vec<_>>()).buffered(SHARDS_AT_ONCE).try_collect().await?;
        Ok(Self::over(search, streams.into_iter().flatten().collect()))
    }

    fn over(search: &'s Search<'s>, streams: Vec<Stream>) -> Self {
        let mut merge = Self { search, streams, firsts: BinaryHeap::new() };
        for number in 0..merge.streams.len() {
            merge.rank(number);
        }
        merge
    }

    fn rank(&mut self, number: usize) {
        if let Some(first) = self.streams[number].buffer.front() {
            self.firsts.push((self.search.filter.rank(first.mark), number));
        }
    }

    pub(super) fn peek(&self) -> Option<&Entry> {
        self.firsts.peek().and_then(|(_, number)| self.streams[*number].buffer.front())
    }

    /// The next entry of all streams.
    pub(super) async fn pop(&mut self) -> Result<Option<Entry>> {
        let Some((_, number)) = self.firsts.pop() else { return Ok(None) };
        let stream = &mut self.streams[number];
        let entry = stream.buffer.pop_front();
        if let Some(on) = stream.on.clone().filter(|_| stream.must_read()) {
            fill(&on, self.search, std::slice::from_mut(stream)).await?;
        }
        self.rank(number);
        Ok(entry)
    }
}

/// The streams of one table of one shard, each with its first entries, over one connection.
async fn start_on(search: &Search<'_>, table: Table, on: &ShardDb) -> Result<Vec<Stream>> {
    let from = search.filter.start();
    let kinds = match (search.filter.query.order, table) {
        (Order::IdAsc | Order::IdDesc, _) => vec![Kind::Scan(table, search.filter.ids())],
        (Order::EndedDesc, _) => ended_kinds(search, on).await?,
        (Order::DueAsc, _) => due_kinds(search, on).await?,
    };
    let many = kinds.len() * search.open.len() > STREAMS_FEW;
    let chunk = if many { CHUNK_OF_MANY } else { search.filter.query.limit + 1 };
    let streams = kinds.into_iter().map(|kind| Stream::new(on.clone(), kind, from, chunk));
    let mut streams: Vec<Stream> = streams.collect();
    fill(on, search, &mut streams).await?;
    Ok(streams)
}

async fn fill(on: &ShardDb, search: &Search<'_>, streams: &mut [Stream]) -> Result<()> {
    let streams = tokio::sync::Mutex::new(streams);
    let streams = &streams;
    on.read("search", move |tx| {
        Box::pin(async move {
            for stream in streams.lock().await.iter_mut() {
                stream.fill(tx, search).await?;
            }
            Ok(())
        })
    })
    .await
}

/// One stream for each config of the scope and phase that has rows on this shard.
async fn due_kinds(search: &Search<'_>, on: &ShardDb) -> Result<Vec<Kind>> {
    let rows = on
        .read("search_phases", move |tx: &mut Tx<'_>| {
            Box::pin(async move { query(&on.sql(PHASES)).fetch_all(tx.conn()).await })
        })
        .await?;
    let mut kinds = Vec::new();
    for row in &rows {
        let config = ConfigId::new(row.get(0)?);
        if !search.filter.is_in_scope(config) {
            continue;
        }
        for (at, phase) in (1..).zip(Phase::ALL) {
            if row.get::<Option<i64>>(at)?.is_some() {
                kinds.extend(due_kind(search, config, phase));
            }
        }
    }
    Ok(kinds)
}

/// `None`: nothing in this phase is asked for.
fn due_kind(search: &Search<'_>, config: ConfigId, phase: Phase) -> Option<Kind> {
    let of_phase = || Status::ALL.into_iter().filter(|status| status.phase() == Some(phase));
    let wanted = of_phase().find(|status| search.filter.wants(*status))?;
    if of_phase().all(|status| search.filter.wants(status)) {
        Some(Kind::Due(config, phase))
    } else {
        Some(Kind::DueAt(config, phase, wanted))
    }
}

/// One stream for each config of the scope that has ended rows on this shard.
async fn ended_kinds(search: &Search<'_>, on: &ShardDb) -> Result<Vec<Kind>> {
    if search.filter.configs.len() <= CONFIGS_SOUGHT {
        return Ok(search.filter.configs.iter().map(|config| Kind::Ended(*config)).collect());
    }
    let configs: Vec<i64> = on
        .read("search_ended_configs", move |tx: &mut Tx<'_>| {
            Box::pin(async move {
                let rows = query(&on.sql(ENDED_CONFIGS)).fetch_all(tx.conn()).await?;
                rows.iter().map(|row| row.get(0)).collect()
            })
        })
        .await?;
    let known = configs.into_iter().map(ConfigId::new);
    Ok(known.filter(|config| search.filter.is_in_scope(*config)).map(Kind::Ended).collect())
}

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 2] = [PHASES, ENDED_CONFIGS];
