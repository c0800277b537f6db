//! Small answers: all candidates from the indexes, if they are few.

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use tsp_core::{ConfigId, TaskId, TaskKey};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::backend::search::Table;
use tsp_store::error::Result;
use tsp_store::search::Order;

use crate::connection::bind::{Values, key_hash};
use crate::connection::db::ShardDb;
use crate::search::page::{Entry, Search};

/// More candidates than this are not gathered. Few in tests, so that they go the other roads too.
const GATHER_MAX: usize = if cfg!(test) { 30 } else { 2_000 };
/// Each config costs a seek in each index, so a scope of more is not gathered.
const CONFIGS_MAX: usize = 256;
const SHARDS_AT_ONCE: usize = 8;

const KEY_OPEN: &str = "-- search_key_open
SELECT id, due_at FROM task_{shard} WHERE config_id IN ({list}) AND key_hash = ? LIMIT ?";
const KEY_ENDED: &str = "-- search_key_ended
SELECT id, ended_at FROM history_{shard} WHERE config_id IN ({list}) AND key_hash = ? LIMIT ?";
const CONFIG_OPEN: &str = "-- search_config_open
SELECT id, due_at FROM task_{shard} WHERE config_id IN ({list}) LIMIT ?";
const CONFIG_ENDED: &str = "-- search_config_ended
SELECT id, ended_at FROM history_{shard} WHERE config_id IN ({list}) LIMIT ?";

#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [KEY_OPEN, KEY_ENDED, CONFIG_OPEN, CONFIG_ENDED];

/// What leads to the candidates.
#[derive(Clone, Copy)]
enum CandidateSource<'s> {
    Key(&'s [ConfigId], &'s TaskKey),
    Configs(&'s [ConfigId]),
}

/// Every row that could be in the answer. `None`: they are too many, or in an order that the merge serves.
pub(super) async fn gather(search: &Search<'_>) -> Result<Option<Vec<Entry>>> {
    let (query, configs) = (search.filter.query, search.filter.configs);
    let by = match (&query.parent, &query.key) {
        // Before fan-out no task has one, and no index leads to its parts.
        (Some(_), _) => return Ok(Some(Vec::new())),
        _ if configs.len() > CONFIGS_MAX => return Ok(None),
        (None, Some(key)) => CandidateSource::Key(configs, key),
        _ if !matches!(query.order, Order::IdAsc | Order::IdDesc) => return Ok(None),
        _ => CandidateSource::Configs(configs),
    };
    let looks: Vec<_> = search.shards().map(|(table, on)| look(search, table, on, by)).collect();
    let mut looks = stream::iter(looks).buffer_unordered(SHARDS_AT_ONCE);
    let mut found = Vec::new();
    while let Some(entries) = looks.try_next().await? {
        found.extend(entries);
        if found.len() > GATHER_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

async fn look(
    search: &Search<'_>,
    table: Table,
    on: &ShardDb,
    by: CandidateSource<'_>,
) -> Result<Vec<Entry>> {
    let rows = on
        .read("search_gather", move |tx| {
            Box::pin(async move {
                let (CandidateSource::Key(configs, _) | CandidateSource::Configs(configs)) = by;
                let mut values = Values::of_ids(configs.iter().map(|config| config.get()));
                let template = match (by, table) {
                    (CandidateSource::Key(..), Table::Open) => KEY_OPEN,
                    (CandidateSource::Key(..), Table::Ended) => KEY_ENDED,
                    (CandidateSource::Configs(_), Table::Open) => CONFIG_OPEN,
                    (CandidateSource::Configs(_), Table::Ended) => CONFIG_ENDED,
                };
                if let CandidateSource::Key(_, key) = by {
                    values.put(key_hash(key).to_vec());
                }
                values.put(sql_limit(GATHER_MAX + 1));
                values.ask(&on.sql(template))?.fetch_all(tx.conn()).await
            })
        })
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, at) = (TaskId::new(row.get(0)?), row.get(1)?);
        entries.push(Entry { mark: search.filter.mark(id, at), table, ended_at: at, skipped: false });
    }
    Ok(entries)
}
