//! Search over open and ended tasks of all shards together.
//!
//! Entries are read from the indexes, shard by shard in the order asked for, and merged ([`crate::search::merge`]); rows are
//! loaded only for what is on the page, many at once. Small answers are gathered from the indexes whole
//! ([`crate::search::gather`]). No way reads more than [`ROWS_READ_MAX`] entries in one call; a page that stops there says
//! where to go on.
//!
//! Shards are not read at one moment: a task that ends while it is searched for may be missed by this page.

use std::collections::{BTreeMap, HashMap};

use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId};
use tsp_store::backend::columns::{ended_columns, open_columns};
use tsp_store::backend::row::read_task;
use tsp_store::backend::search::{Filter, Table};
use tsp_store::error::Result;
use tsp_store::search::{Bookmark, Page, ROWS_READ_MAX, Scope, TaskQuery};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::all_good;
use crate::connection::statement_templates::ROWS_MAX;
use crate::context::{StoreContext, all_of};
use crate::search::gather;
use crate::search::merge::Merge;
use crate::tasks::cancel::shards_of;

const LOAD_OPEN: &str =
    concat!("-- search_open\nSELECT ", open_columns!("task_key"), " FROM task_{shard} WHERE id IN ({list})");
const LOAD_ENDED: &str = concat!(
    "-- search_ended\nSELECT ",
    ended_columns!("task_key"),
    " FROM history_{shard} WHERE id IN ({list}) AND ended_at BETWEEN ? AND ?"
);

/// The scope is given as the configs it holds, in rising order.
pub(crate) async fn search(context: &StoreContext, query: &TaskQuery, configs: &[ConfigId]) -> Result<Page> {
    let open = match query.scope {
        Scope::Config(config) => shards_of(context, config)?,
        Scope::App(_) | Scope::Configs(_) => context.all_shards(),
    };
    let search = Search { filter: Filter::new(query, configs), open, ended: context.all_shards() };
    if search.filter.is_empty() {
        return Ok(Page::default());
    }
    let merge = match gather::gather(&search).await? {
        Some(found) => Merge::of(&search, found),
        None => Merge::start(&search).await?,
    };
    search.page(merge).await
}

/// What an index says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mark: Bookmark,
    pub(super) table: Table,
    /// For a row of history: with its id it finds the partition.
    pub(super) ended_at: i64,
    /// The row is none of those asked for, as far as the index says.
    pub(super) skipped: bool,
}

pub(super) struct Search<'s> {
    pub(super) filter: Filter<'s>,
    /// The shards that may have open tasks of the scope.
    pub(super) open: Vec<ShardDb>,
    /// The same for ended ones.
    pub(super) ended: Vec<ShardDb>,
}

impl Search<'_> {
    /// The tables that may have rows asked for, with their shards.
    pub(super) fn shards(&self) -> impl Iterator<Item = (Table, &ShardDb)> {
        let tables = [(Table::Open, &self.open), (Table::Ended, &self.ended)];
        let wanted = tables.into_iter().filter(move |(table, _)| self.filter.wants_table(*table));
        wanted.flat_map(|(table, shards)| shards.iter().map(move |on| (table, on)))
    }

    async fn page(&self, mut merge: Merge<'_>) -> Result<Page> {
        let mut page = Page::default();
        let mut budget = ROWS_READ_MAX;
        loop {
            let wanted = self.filter.query.limit - page.tasks.len();
            let mut entries = Vec::with_capacity(wanted);
            let mut last = None;
            while entries.len() < wanted && budget > 0 {
                let Some(entry) = merge.pop().await?.filter(|entry| !self.filter.is_behind(entry.mark))
                else {
                    break;
                };
                last = Some(entry.mark);
                // A loaded row costs as much as the entry that led to it.
                budget = budget.saturating_sub(if entry.skipped { 1 } else { 2 });
                entries.extend(Some(entry).filter(|entry| !entry.skipped));
            }
            let Some(last) = last else { return Ok(page) };
            let mut rows = self.load(&entries).await?;
            let found = entries.iter().filter_map(|entry| rows.remove(&entry.mark.id));
            page.tasks.extend(found.filter(|task| self.filter.matches(task)));
            if page.tasks.len() >= self.filter.query.limit || budget == 0 {
                let next = merge.peek();
                page.next = next.is_some_and(|next| !self.filter.is_behind(next.mark)).then_some(last);
                return Ok(page);
            }
        }
    }

    /// The rows of these entries, as they are now. Bad ones are reported and left out.
    async fn load(&self, entries: &[Entry]) -> Result<HashMap<TaskId, Task>> {
        let mut by_shard: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            by_shard.entry((entry.mark.id.shard(), entry.table)).or_default().push(entry);
        }
        let loads = by_shard.into_iter().map(|((shard, table), entries)| {
            let on = self.ended.iter().find(|on| on.shard == shard).cloned();
            async move {
                match on {
                    Some(on) => load(&on, table, &entries).await,
                    None => Ok(Vec::new()),
                }
            }
        });
        let loaded = all_of(loads).await?;
        Ok(loaded.into_iter().flatten().map(|task| (task.id, task)).collect())
    }
}

async fn load(on: &ShardDb, table: Table, entries: &[&Entry]) -> Result<Vec<Task>> {
    on.read("search_load", move |tx| {
        Box::pin(async move {
            let mut tasks = Vec::with_capacity(entries.len());
            for chunk in entries.chunks(ROWS_MAX) {
                let mut values = Values::of_ids(chunk.iter().map(|entry| entry.mark.id.get()));
                let template = match table {
                    Table::Open => LOAD_OPEN,
                    Table::Ended => {
                        let ended_at = chunk.iter().map(|entry| entry.ended_at);
                        values.put(ended_at.clone().min()).put(ended_at.max());
                        LOAD_ENDED
                    }
                };
                let rows = values.ask(&on.sql(template))?.fetch_all(tx.conn()).await?;
                tasks.extend(all_good(&rows, read_task)?);
            }
            Ok(tasks)
        })
    })
    .await
}

/// For the golden plans.
#[cfg(test)]
pub(crate) fn statements() -> impl Iterator<Item = &'static str> {
    gather::STATEMENTS
        .into_iter()
        .chain(crate::search::stream::STATEMENTS)
        .chain(crate::search::merge::STATEMENTS)
        .chain([LOAD_OPEN, LOAD_ENDED])
}
