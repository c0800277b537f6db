//! The databases that are written to.

use std::collections::BTreeMap;

use futures::future::join_all;
use tsp_core::ShardId;
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};
use tsp_store::transfer::{Balance, Page};

use crate::connection::link::Link;
use crate::import::tables::TableImport;
use crate::options::MySqlOptions;

/// Connections to each data source.
const LINKS_PER_SOURCE: usize = 4;
/// A statement ends when it is so long; servers take 16 MiB by default.
const STATEMENT_BYTES: usize = 1 << 20;

/// Connections for rows: to meta, and some to each data source.
pub(super) struct Target {
    pub(super) shards: u16,
    sealer: Sealer,
    /// The first is meta's.
    links: Vec<Link>,
    /// The link of each shard.
    links_of_shards: Vec<usize>,
}

impl Target {
    /// `sources_of_shards`: the name of each shard's data source.
    pub(super) async fn connect(
        options: &MySqlOptions,
        sources_of_shards: &[String],
        sealer: Sealer,
    ) -> Result<Self> {
        let mut links = vec![Link::connect("meta", &options.meta).await?];
        let mut firsts = BTreeMap::new();
        for source in options.sources.iter().filter(|source| sources_of_shards.contains(&source.name)) {
            firsts.insert(&*source.name, links.len());
            for _ in 0..LINKS_PER_SOURCE {
                links.push(Link::connect(&source.name, &source.url).await?);
            }
        }
        let link_index = |(shard, source_name): (usize, &String)| {
            let first = firsts.get(&**source_name).copied();
            first.map(|first| first + shard % LINKS_PER_SOURCE).ok_or_else(|| {
                StoreError::Unusable(format!(
                    "shard {shard} is on `{source_name}`, which is not in `store.sources`"
                ))
            })
        };
        let links_of_shards =
            sources_of_shards.iter().enumerate().map(link_index).collect::<Result<Vec<_>>>()?;
        Ok(Self { shards: options.shards, sealer, links, links_of_shards })
    }

    fn link_index(&self, shard: Option<ShardId>) -> usize {
        shard.and_then(|shard| self.links_of_shards.get(usize::from(shard.get()))).copied().unwrap_or(0)
    }

    /// The connection of a shard, or of meta.
    pub(super) fn link(&mut self, shard: Option<ShardId>) -> &mut Link {
        let link_index = self.link_index(shard);
        &mut self.links[link_index]
    }

    pub(super) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).filter_map(ShardId::new)
    }

    /// Each connection writes its rows in one transaction. Rows that are there stay as they are.
    pub(super) async fn write(
        &mut self,
        table_import: &TableImport,
        page: Page,
        from: &Sealer,
    ) -> Result<()> {
        let mut statements: Vec<Vec<String>> = self.links.iter().map(|_| Vec::new()).collect();
        let mut by_shard: BTreeMap<Option<ShardId>, Page> = BTreeMap::new();
        for row in page {
            by_shard.entry(table_import.home_of(&row, self.shards)?).or_default().push(row);
        }
        for (shard, rows) in by_shard {
            let (head, tail) = table_import.statement(shard);
            let of = &mut statements[self.link_index(shard)];
            let mut text = String::new();
            for mut row in rows {
                text.push_str(if text.is_empty() { &head } else { "," });
                text.push_str(&table_import.literals(&mut row, from, &self.sealer)?);
                if text.len() >= STATEMENT_BYTES {
                    text.push_str(&tail);
                    of.push(std::mem::take(&mut text));
                }
            }
            if !text.is_empty() {
                text.push_str(&tail);
                of.push(text);
            }
        }
        let writes = self.links.iter_mut().zip(statements).filter(|(_, texts)| !texts.is_empty());
        let done = join_all(writes.map(|(link, texts)| transaction(link, texts))).await;
        done.into_iter().collect()
    }

    /// Sums that each shard's auditor finds right; what the old store has dropped, and what it lacked, is
    /// shard 0's.
    pub(super) async fn write_sums(&mut self, of: Balance, rows: &[(i64, i64)]) -> Result<()> {
        let (open, ended): (i64, i64) =
            rows.iter().fold((0, 0), |sum, (open, ended)| (sum.0 + open, sum.1 + ended));
        let Balance { accepted, ended: all_ended, dropped } = of;
        for (shard, (here, history)) in self.all_shards().collect::<Vec<_>>().into_iter().zip(rows) {
            let first = i64::from(shard.get() == 0);
            let sums = [
                here + history + first * (accepted - open - ended),
                history + first * (all_ended - ended),
                first * dropped,
            ];
            let [accepted, ended, dropped] = sums;
            let text = format!(
                "-- carry_sums\nREPLACE INTO balance_{:03} (node, accepted, ended, dropped)
                VALUES (0, {accepted}, {ended}, {dropped})",
                shard.get()
            );
            self.link(Some(shard)).run(text).await?;
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        join_all(self.links.into_iter().map(Link::close)).await;
    }
}

async fn transaction(link: &mut Link, texts: Vec<String>) -> Result<()> {
    link.run("BEGIN".to_owned()).await?;
    for text in texts {
        link.run(text).await?;
    }
    link.run("COMMIT".to_owned()).await?;
    Ok(())
}
