//! Search over open and ended tasks of all shards together.
//!
//! Entries are read from the indexes, shard by shard in the order asked for, and merged ([`merge`]); rows are
//! loaded only for what is on the page, many at once. Small answers are gathered from the indexes whole
//! ([`gather`]). No way reads more than [`ROWS_READ_MAX`] entries in one call; a page that stops there says
//! where to go on.
//!
//! Shards are not read at one moment: a task that ends while it is searched for may be missed by this page.

mod gather;
mod merge;
mod stream;

use std::collections::{BTreeMap, HashMap, HashSet};

use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{ConfigId, TaskId, Timestamp};

use crate::error::Result;
use crate::search::{Bookmark, Order, Page, ROWS_READ_MAX, Scope, TaskQuery};

use self::merge::Merge;
use super::bind::Values;
use super::cancel::shards_of;
use super::context::{StoreContext, all_of};
use super::db::ShardDb;
use super::row::{all_good, ended_columns, open_columns, read_task};
use super::statement_templates::{ROWS_MAX, padded_to_class};

const LOAD_OPEN: &str =
    concat!("-- search_open\nSELECT ", open_columns!(), " FROM task_{shard} WHERE id IN ({list})");
const LOAD_ENDED: &str = concat!(
    "-- search_ended\nSELECT ",
    ended_columns!(),
    " FROM history_{shard} WHERE id IN ({list}) AND ended_at BETWEEN ? AND ?"
);

/// The scope is given as the configs it holds, in rising order.
pub(super) async fn search(context: &StoreContext, query: &TaskQuery, configs: &[ConfigId]) -> Result<Page> {
    let open = match query.scope {
        Scope::Config(config) => shards_of(context, config)?,
        Scope::App(_) | Scope::Configs(_) => context.all_shards(),
    };
    let scope = configs.iter().copied().collect();
    let search = Search { query, configs, scope, open, ended: context.all_shards() };
    if configs.is_empty() || (!search.wants_ended() && !search.wants_open()) {
        return Ok(Page::default());
    }
    let merge = match gather::gather(&search).await? {
        Some(found) => Merge::of(&search, found),
        None => Merge::start(&search).await?,
    };
    search.page(merge).await
}

/// Which table a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Table {
    Open,
    Ended,
}

/// What an index says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    mark: Bookmark,
    table: Table,
    /// For a row of history: with its id it finds the partition.
    ended_at: i64,
    /// The row is none of those asked for, as far as the index says.
    skipped: bool,
}

struct Search<'s> {
    query: &'s TaskQuery,
    configs: &'s [ConfigId],
    scope: HashSet<ConfigId>,
    /// The shards that may have open tasks of the scope.
    open: Vec<ShardDb>,
    /// The same for ended ones.
    ended: Vec<ShardDb>,
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

    /// Higher ranks come first.
    fn rank(&self, mark: Bookmark) -> (i64, i64) {
        let pair = (mark.at, mark.id.get());
        if self.descending() { pair } else { (!pair.0, !pair.1) }
    }

    fn is_after_bookmark(&self, mark: Bookmark) -> bool {
        self.query.after.is_none_or(|after| self.rank(mark) < self.rank(after))
    }

    /// The position of a row in the order asked for. `at`: when it is due, or when it ended.
    fn mark(&self, id: TaskId, at: i64) -> Bookmark {
        match self.query.order {
            Order::IdDesc | Order::IdAsc => Bookmark { at: id.get(), id },
            Order::EndedDesc | Order::DueAsc => Bookmark { at, id },
        }
    }

    /// Nothing at or behind this mark is asked for.
    fn is_behind(&self, mark: Bookmark) -> bool {
        self.query.order == Order::DueAsc && self.query.due_to.is_some_and(|to| mark.at >= to.ms())
    }

    fn is_in_scope(&self, config: ConfigId) -> bool {
        self.scope.contains(&config)
    }

    fn is_in_time(&self, due_at: Timestamp, created_at: Timestamp) -> bool {
        let query = self.query;
        let within = |at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>| {
            from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
        };
        within(due_at, query.due_from, query.due_to)
            && within(created_at, query.created_from, query.created_to)
    }

    fn has_result(&self, result: Option<EndResult>) -> bool {
        self.query.results.is_empty() || result.is_some_and(|result| self.query.results.contains(&result))
    }

    fn matches(&self, task: &Task) -> bool {
        let query = self.query;
        self.is_in_scope(task.config)
            && self.names(task.status)
            && query.key.as_ref().is_none_or(|key| task.key.as_ref() == Some(key))
            && self.has_result(task.result)
            && self.is_in_time(task.due_at, task.created_at)
            && query.parent.is_none_or(|parent| task.parent == Some(parent))
    }

    async fn page(&self, mut merge: Merge<'_>) -> Result<Page> {
        let mut page = Page::default();
        let mut budget = ROWS_READ_MAX;
        loop {
            let wanted = self.query.limit - page.tasks.len();
            let mut entries = Vec::with_capacity(wanted);
            let mut last = None;
            while entries.len() < wanted && budget > 0 {
                let Some(entry) = merge.pop().await?.filter(|entry| !self.is_behind(entry.mark)) else {
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
            page.tasks.extend(found.filter(|task| self.matches(task)));
            if page.tasks.len() >= self.query.limit || budget == 0 {
                let next = merge.peek();
                page.next = next.is_some_and(|next| !self.is_behind(next.mark)).then_some(last);
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
                let ids: Vec<i64> = chunk.iter().map(|entry| entry.mark.id.get()).collect();
                let (n, list) = padded_to_class(&ids);
                let mut values = Values::of_ids(list);
                let template = match table {
                    Table::Open => LOAD_OPEN,
                    Table::Ended => {
                        let ended_at = chunk.iter().map(|entry| entry.ended_at);
                        values.put(ended_at.clone().min()).put(ended_at.max());
                        LOAD_ENDED
                    }
                };
                let rows = values.ask(&on.sql_list(template, n))?.fetch_all(tx.conn()).await?;
                tasks.extend(all_good(&rows, read_task)?);
            }
            Ok(tasks)
        })
    })
    .await
}

/// For the golden plans.
#[cfg(test)]
pub(super) fn statements() -> impl Iterator<Item = &'static str> {
    gather::STATEMENTS
        .into_iter()
        .chain(stream::STATEMENTS)
        .chain(merge::STATEMENTS)
        .chain([LOAD_OPEN, LOAD_ENDED])
}
