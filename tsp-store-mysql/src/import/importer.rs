//! Importing an embedded store into a cluster (DESIGN.md section 10).
//!
//! Both have the same number of shards, so ids, and which shard has what, stay as they are: rows are copied
//! as they stand, a page after the other, and a bookmark in meta says how far it is. A row that is there
//! already stays, so a repeated page does no harm.

use std::collections::BTreeMap;

use futures::future::join;
use tsp_core::{ShardId, Timestamp};
use tsp_store::backend::settings::check_shards;
use tsp_store::documents::Sealer;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::transfer::{Cell, CountBy, ExportSource, Page, TableColumns};

use crate::connection::link::Link;
use crate::import::state::{self, State};
use crate::import::tables::{Home, TABLES, TableImport};
use crate::import::target::Target;
use crate::options::MySqlOptions;
use crate::schema::initialise;
use crate::schema::migrate;

/// Rows of a page.
const PAGE: usize = 8_000;

/// How far it is: so many rows of this table, of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    pub table: &'static str,
    pub rows: i64,
    pub of: i64,
}

/// Told after each page; `false` breaks it off there, as a crash would.
pub type OnPage<'a> = &'a mut (dyn FnMut(ImportProgress) -> bool + Send);

/// A table, its rows in meta or in each shard, the same in both stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedTable {
    pub table: &'static str,
    /// One number for meta, one for each shard.
    pub rows: Vec<i64>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// It was done before; nothing was compared, as the cluster goes on by itself since.
    pub before: bool,
    pub tables: Vec<ImportedTable>,
}

pub(crate) async fn import_embedded(
    options: &MySqlOptions,
    source: &dyn ExportSource,
    now: Timestamp,
    on_page: OnPage<'_>,
) -> Result<ImportReport> {
    options.check()?;
    if source.shard_count() != options.shards {
        return Err(StoreError::Unusable(format!(
            "the embedded store has {} shards and the cluster {}: make the cluster with `store.shards = {0}`, or \
             ids would name other shards",
            source.shard_count(),
            options.shards
        )));
    }
    let mut meta = Link::connect("meta", &options.meta).await?;
    migrate::lock(meta.raw(), "meta").await?;
    let (sealer, sources_of_shards) = initialised(&mut meta, options).await?;
    let mut target = Target::connect(options, &sources_of_shards, sealer).await?;
    let Some(state) = begin(&mut meta, &mut target, source, now).await? else {
        return Ok(ImportReport { before: true, tables: Vec::new() });
    };
    let mut carrying = Import { meta, target, source, state, on_page };
    carrying.rows().await?;
    let tables = carrying.end(now).await?;
    let Import { meta, target, .. } = carrying;
    join(meta.close(), target.close()).await;
    Ok(ImportReport { before: false, tables })
}

/// The cluster's key, which must be the right one, and where its shards are.
async fn initialised(meta: &mut Link, options: &MySqlOptions) -> Result<(Sealer, Vec<String>)> {
    let sealer = Sealer::new(&options.secret_key).map_err(StoreError::Internal)?;
    let missing = || StoreError::Unusable("the cluster was not made ready: run `tsp migrate`".to_owned());
    let shards = match initialise::setting(meta.raw(), "shards").await {
        Ok(found) => found.ok_or_else(missing)?,
        // There are no tables at all.
        Err(error) if error.is(Cause::NoTable) => return Err(missing()),
        Err(error) => return Err(error),
    };
    check_shards(&shards, options.shards)?;
    initialise::check_key(
        &initialise::setting(meta.raw(), "secret_probe").await?.ok_or_else(missing)?,
        &sealer,
    )?;
    let sources_of_shards = initialise::shard_sources(meta.raw(), options.shards).await?;
    Ok((sealer, initialise::known_sources(sources_of_shards, options)?))
}

/// Where it goes on; `None`: it was done before.
async fn begin(
    meta: &mut Link,
    target: &mut Target,
    source: &dyn ExportSource,
    now: Timestamp,
) -> Result<Option<State>> {
    let identity = source.identity().await?;
    match state::find(meta).await? {
        Some(state) if state.source != identity => Err(StoreError::Unusable(
            "another embedded store was carried over to this cluster, or is being: one cluster takes one"
                .to_owned(),
        )),
        Some(state) if state.done => Ok(None),
        Some(state) if state.last_node != source.last_node().await? => Err(StoreError::Unusable(
            "the embedded store was served since a part of it was carried over: make the cluster's databases \
             anew (drop them, create them, `tsp migrate`), and begin again"
                .to_owned(),
        )),
        Some(state) => {
            state::refuse_running(meta).await?;
            Ok(Some(state))
        }
        None => {
            state::refuse_running(meta).await?;
            for shard in target.all_shards().collect::<Vec<_>>() {
                state::refuse_used(meta, shard, target.link(Some(shard))).await?;
            }
            source.release_all(now).await?;
            let last_node = source.last_node().await?;
            let state = State { source: identity, last_node, table: 0, after: None, done: false };
            state::write(meta, &state).await?;
            Ok(Some(state))
        }
    }
}

struct Import<'a> {
    meta: Link,
    target: Target,
    source: &'a dyn ExportSource,
    state: State,
    on_page: OnPage<'a>,
}

impl Import<'_> {
    async fn rows(&mut self) -> Result<()> {
        while let Some(table_import) = TABLES.get(self.state.table) {
            self.table(table_import).await?;
            self.state.table += 1;
            self.state.after = None;
            state::write(&mut self.meta, &self.state).await?;
        }
        Ok(())
    }

    /// While a page is written the next one is read.
    async fn table(&mut self, table_import: &TableImport) -> Result<()> {
        let of: i64 = self.source.counts(table_import.out.table, CountBy::Table).await?.values().sum();
        let mut progress = ImportProgress { table: table_import.out.table, rows: 0, of };
        let mut page = self.source.page(table_import.out, self.state.after.clone(), PAGE).await?;
        while let Some(last) = page.last() {
            let after: Vec<Cell> = last.iter().take(table_import.out.keys.len()).cloned().collect();
            progress.rows += i64::try_from(page.len()).unwrap_or(i64::MAX);
            let read = self.source.page(table_import.out, Some(after.clone()), PAGE);
            let written = self.target.write(table_import, page, self.source.sealer());
            let (read, written) = join(read, written).await;
            written?;
            page = read?;
            self.state.after = Some(after);
            state::write(&mut self.meta, &self.state).await?;
            if !(self.on_page)(progress) {
                return Err(Cause::Interrupted.because("broken off"));
            }
        }
        Ok(())
    }

    /// Counts, sums, and what no id may repeat; then the cluster may be served, and the source no more.
    async fn end(&mut self, now: Timestamp) -> Result<Vec<ImportedTable>> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for table_import in &TABLES {
            tables.push(self.compared(table_import).await?);
        }
        let rows = |name: &str| tables.iter().find(|table| table.table == name).map(|table| &table.rows);
        if let (Some(open), Some(ended)) = (rows("task"), rows("history")) {
            let rows: Vec<(i64, i64)> = open.iter().copied().zip(ended.iter().copied()).collect();
            self.target.write_sums(self.source.balance().await?, &rows).await?;
        }
        self.numbers().await?;
        // First the source: with both refused nothing is called twice, and this can be run again.
        self.source.mark_imported(now).await?;
        self.state.done = true;
        state::write(&mut self.meta, &self.state).await?;
        Ok(tables)
    }

    async fn compared(&mut self, table_import: &TableImport) -> Result<ImportedTable> {
        let wanted = self.counts(table_import).await?;
        let homes: Vec<Option<ShardId>> = match table_import.home {
            Home::Meta => vec![None],
            _ => self.target.all_shards().map(Some).collect(),
        };
        let mut rows = Vec::with_capacity(homes.len());
        for home in homes {
            let table = table_import.table(home);
            let found =
                self.target.link(home).number(format!("-- rows\nSELECT COUNT(*) FROM {table}")).await?;
            let wanted = wanted.get(&home).copied().unwrap_or(0);
            if found != wanted {
                return Err(StoreError::Internal(format!(
                    "`{table}` has {found} rows and should have {wanted}: keep both stores as they are and \
                     report it"
                )));
            }
            rows.push(found);
        }
        Ok(ImportedTable { table: table_import.out.table, rows })
    }

    /// How many rows the source has for each shard, and for the meta database.
    async fn counts(&self, table_import: &TableImport) -> Result<BTreeMap<Option<ShardId>, i64>> {
        let table = table_import.out.table;
        let mut counts = BTreeMap::new();
        let by = match table_import.home {
            Home::Meta => CountBy::Table,
            Home::Task if table == "attempt" => CountBy::TaskShard,
            Home::Task => CountBy::Shard,
            Home::Config => CountBy::Config,
            Home::Hash => return self.hash_counts(table_import).await,
        };
        for (number, count) in self.source.counts(table, by).await? {
            let home = match table_import.home {
                Home::Task => u16::try_from(number).ok().and_then(ShardId::new),
                _ => table_import.home_of(&[Cell::Int(number)], self.target.shards)?,
            };
            *counts.entry(home).or_default() += count;
        }
        Ok(counts)
    }

    async fn hash_counts(&self, table_import: &TableImport) -> Result<BTreeMap<Option<ShardId>, i64>> {
        let mut counts = BTreeMap::new();
        let out = TableColumns { columns: "hash", ..table_import.out };
        let mut after = None;
        loop {
            let page: Page = self.source.page(out, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(counts) };
            after = Some(last.clone());
            for row in &page {
                *counts.entry(table_import.home_of(row, self.target.shards)?).or_default() += 1;
            }
        }
    }

    /// Ids go on above those of the source, also above those whose rows are gone.
    async fn numbers(&mut self) -> Result<()> {
        for (table, last) in self.source.last_ids().await? {
            let next = last.saturating_add(1);
            self.target
                .link(None)
                .run(format!("-- carry_ids\nALTER TABLE {table} AUTO_INCREMENT = {next}"))
                .await?;
        }
        for (slot, used_until) in self.source.id_slots().await? {
            let text = format!(
                "-- carry_slot\nINSERT INTO id_slot (slot, node, used_until) VALUES ({slot}, 0, {used_until})
                ON DUPLICATE KEY UPDATE used_until = GREATEST(used_until, {used_until})"
            );
            self.target.link(None).run(text).await?;
        }
        let epoch = self.source.last_epoch().await?;
        for shard in self.target.all_shards().collect::<Vec<_>>() {
            let text = format!(
                "-- carry_epoch\nUPDATE shard_epoch SET epoch = GREATEST(epoch, {epoch}) WHERE shard = {}",
                shard.get()
            );
            self.target.link(Some(shard)).run(text).await?;
        }
        Ok(())
    }
}
