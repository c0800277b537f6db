//! Moving a shard from one data source to another while it is in use (DESIGN.md section 6).
//!
//! Under their own names the tables of a shard are in one database at most: at the target they are `copy_…`
//! until all is there, at the source `moved_…` from the rename on. So whoever goes by an old map finds no
//! table, and says so; nobody can write to a copy. What is there under which name, and the record in meta,
//! tell how far a move is, so that it goes on from wherever it was interrupted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tsp_core::ShardId;
use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::link::Link;
use crate::moving::checksum_diff::{ChecksumDiff, ScanResult};
use crate::moving::tables::{self, Stage, TABLES};
use crate::options::MySqlOptions;
use crate::schema::migrate;
use crate::schema::move_record;
use crate::schema::move_record::Intent;

/// Walks over a shard in use before the last one, at most: each is shorter than the one before it.
const SCANS_MAX: usize = 6;
/// So few different key ranges are left to the last scan.
const FEW: u64 = 20;
/// How long all processes may take to learn the new data source.
const BARRIER: Duration = Duration::from_secs(30);
const BARRIER_EVERY: Duration = Duration::from_millis(100);

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStep {
    /// It was written down.
    Begun,
    /// The first or a later scan wrote so many rows.
    Copied(u64),
    /// The source's tables are out of use: from now on the shard stands still.
    Renamed,
    /// The copy is complete.
    Complete,
    /// The copy's tables have their own names.
    Installed,
    /// The shard map names the target: the shard goes on.
    Switched,
    /// All processes know it.
    Known,
    /// The source's tables are gone.
    Dropped,
    /// The move was taken back.
    Undone,
}

impl fmt::Display for MoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("begun"),
            Self::Copied(rows) => write!(f, "copied {rows} rows, the shard is in use"),
            Self::Renamed => f.write_str("the shard stands still"),
            Self::Complete => f.write_str("the last rows are copied, and counted on both sides"),
            Self::Installed => f.write_str("the copy is in place"),
            Self::Switched => f.write_str("the shard map is changed, the shard goes on"),
            Self::Known => f.write_str("all processes know the new place"),
            Self::Dropped => f.write_str("the old tables are dropped"),
            Self::Undone => f.write_str("the move is taken back"),
        }
    }
}

/// Called with each step; `false` interrupts the move there, as a crash would.
pub type OnStep<'a> = &'a mut (dyn FnMut(MoveStep) -> bool + Send);

/// A shard, where it is, and where it is being moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSource {
    pub shard: u16,
    pub source: String,
    pub moving_to: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MoveRequest<'a> {
    To(&'a str),
    Undo,
}

/// Where each shard is.
pub(crate) async fn shard_sources(options: &MySqlOptions) -> Result<Vec<ShardSource>> {
    options.check()?;
    let mut meta = Link::connect("meta", &options.meta).await?;
    let moves: BTreeMap<u16, String> = move_record::all(meta.raw()).await?.into_iter().collect();
    let mut places = Vec::new();
    for number in 0..options.shards {
        let Some(shard) = ShardId::new(number) else { continue };
        let source = move_record::place(&mut meta, shard).await?;
        places.push(ShardSource { shard: number, source, moving_to: moves.get(&number).cloned() });
    }
    meta.close().await;
    Ok(places)
}

/// The tables of a shard that are not there under their own names.
pub(crate) async fn missing_tables(link: &mut Link, shard: ShardId) -> Result<Vec<String>> {
    let there = tables::there(link, Stage::Live, shard).await?;
    let missing = TABLES.into_iter().filter(|table| !there.contains(table));
    Ok(missing.map(|table| Stage::Live.table(table, shard)).collect())
}

pub(crate) async fn move_shard(
    options: &MySqlOptions,
    shard: u16,
    to: &str,
    on_step: OnStep<'_>,
) -> Result<()> {
    Move::run(options, shard, MoveRequest::To(to), on_step).await
}

pub(crate) async fn undo(options: &MySqlOptions, shard: u16, on_step: OnStep<'_>) -> Result<()> {
    Move::run(options, shard, MoveRequest::Undo, on_step).await
}

pub(super) struct Move<'a> {
    pub(super) shard: ShardId,
    intent: Intent,
    pub(super) meta: Link,
    pub(super) source: Link,
    pub(super) target: Link,
    on_step: OnStep<'a>,
}

impl<'a> Move<'a> {
    async fn run(
        options: &MySqlOptions,
        shard: u16,
        asked: MoveRequest<'_>,
        on_step: OnStep<'a>,
    ) -> Result<()> {
        options.check()?;
        let unknown = || StoreError::Unusable(format!("there is no shard {shard}"));
        let shard = ShardId::new(shard).filter(|_| shard < options.shards).ok_or_else(unknown)?;
        let mut meta = Link::connect("meta", &options.meta).await?;
        // Migrations and moves come one after another.
        migrate::lock(meta.raw(), "meta").await?;
        let place = move_record::place(&mut meta, shard).await?;
        let found = move_record::find(&mut meta, shard).await?;
        let Some(intent) = decide(shard, &place, found.clone(), asked)? else {
            meta.close().await;
            return Ok(());
        };
        let source = connect(options, &intent.from).await?;
        let target = connect(options, &intent.to).await?;
        let mut moving = Move { shard, intent, meta, source, target, on_step };
        moving.are_two_databases().await?;
        if asked == MoveRequest::Undo {
            moving.undo().await?;
        } else {
            if found.is_none() {
                moving.begin().await?;
            }
            moving.go_on(&place).await?;
        }
        let Move { meta, source, target, .. } = moving;
        futures::future::join3(meta.close(), source.close(), target.close()).await;
        Ok(())
    }

    pub(super) fn step(&mut self, step: MoveStep) -> Result<()> {
        if (self.on_step)(step) {
            return Ok(());
        }
        Err(Cause::Interrupted.because(format!("broken off: {step}")))
    }

    async fn are_two_databases(&mut self) -> Result<()> {
        let which = "-- which\nSELECT CONCAT_WS('/', @@hostname, @@port, @@datadir, DATABASE())";
        let source = self.source.texts(which.to_owned()).await?;
        if source == self.target.texts(which.to_owned()).await? {
            let Intent { from, to, .. } = &self.intent;
            return Err(StoreError::Unusable(format!("`{from}` and `{to}` are the same database")));
        }
        Ok(())
    }

    /// What another move left at the target is not counted on.
    async fn begin(&mut self) -> Result<()> {
        for stage in [Stage::Copy, Stage::Moved] {
            tables::drop_all(&mut self.target, stage, self.shard).await?;
        }
        move_record::write(&mut self.meta, self.shard, &self.intent).await?;
        self.step(MoveStep::Begun)
    }

    async fn go_on(&mut self, place: &str) -> Result<()> {
        if place == self.intent.from {
            self.bring_over().await?;
            self.intent = move_record::switch(&mut self.meta, self.shard, &self.intent).await?;
            self.step(MoveStep::Switched)?;
        }
        self.wait_until_known().await?;
        self.step(MoveStep::Known)?;
        self.drop_source().await?;
        move_record::forget(&mut self.meta, self.shard).await?;
        self.step(MoveStep::Dropped)
    }

    /// Until the target's tables are complete, and have their own names.
    async fn bring_over(&mut self) -> Result<()> {
        let installed = tables::there(&mut self.target, Stage::Live, self.shard).await?;
        let out_of_use = tables::there(&mut self.source, Stage::Moved, self.shard).await?;
        if installed.is_empty() && out_of_use.is_empty() {
            tables::make_copies(&mut self.source, &mut self.target, self.shard, Stage::Live).await?;
            self.copy_in_use().await?;
        }
        self.check_lock().await?;
        let cut = self.cutover().await;
        match cut {
            Err(error) if !error.is(Cause::Interrupted) => Err(self.back_in_use(error).await),
            other => other,
        }
    }

    /// The shard must not stand still because the target does.
    async fn back_in_use(&mut self, error: StoreError) -> StoreError {
        let shard = self.shard.get();
        match self.undo().await {
            Ok(()) => {
                Cause::Away.because(format!("shard {shard} is back where it was: {error}"))
            }
            Err(undo) => Cause::Away.because(format!(
                    "shard {shard} stands still: {error}; it could not be put back: {undo}; run the command again, \
                 or `tsp shard move {shard} --undo`"
                ),
            ),
        }
    }

    /// Walks until little is different.
    async fn copy_in_use(&mut self) -> Result<()> {
        for _ in 0..SCANS_MAX {
            self.check_lock().await?;
            let scanned = self.scan_all(Stage::Live).await?;
            self.step(MoveStep::Copied(scanned.written))?;
            if scanned.written == 0 || scanned.different > 0 && scanned.different <= FEW {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn scan_all(&mut self, stage: Stage) -> Result<ScanResult> {
        let mut all = ScanResult::default();
        for table in TABLES {
            let same = ChecksumDiff::new(&mut self.source, table, self.shard, stage).await?;
            let scanned = same.scan(&mut self.source, &mut self.target).await?;
            all.written += scanned.written;
            all.different += scanned.different;
        }
        Ok(all)
    }

    /// The lock is gone when its connection was.
    async fn check_lock(&mut self) -> Result<()> {
        let held = "-- migrate_lock_held\nSELECT CAST(COALESCE(IS_USED_LOCK(\
            LEFT(CONCAT('tsp_migrate.', DATABASE()), 64)) = CONNECTION_ID(), 0) AS SIGNED)";
        if self.meta.number(held.to_owned()).await? == 1 {
            return Ok(());
        }
        Err(Cause::Away.because("the lock of migrations was lost: run the command again"))
    }

    async fn wait_until_known(&mut self) -> Result<()> {
        let Some(seq) = self.intent.seq else { return Ok(()) };
        let until = Instant::now() + BARRIER;
        loop {
            let behind = move_record::behind(&mut self.meta, seq).await?;
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Cause::Away.because(format!(
                    "the shard has moved, but {} do not know it yet: the old tables stay; run the command \
                     again to drop them",
                    behind.join(", ")
                )));
            }
            sleep(BARRIER_EVERY).await;
        }
    }
}

async fn connect(options: &MySqlOptions, name: &str) -> Result<Link> {
    let source = options.sources.iter().find(|source| source.name == name);
    let unknown = || {
        let names: Vec<&str> = options.sources.iter().map(|source| &*source.name).collect();
        StoreError::Unusable(format!(
            "there is no data source `{name}` in `store.sources`; there are {}",
            names.join(", ")
        ))
    };
    let source = source.ok_or_else(unknown)?;
    Link::connect(&source.name, &source.url).await
}

/// What is to be done; `None`: nothing.
fn decide(
    shard: ShardId,
    place: &str,
    found: Option<Intent>,
    asked: MoveRequest<'_>,
) -> Result<Option<Intent>> {
    let shard = shard.get();
    match (found, asked) {
        (None, MoveRequest::Undo) => Err(StoreError::Unusable(format!("shard {shard} is not being moved"))),
        (None, MoveRequest::To(to)) if to == place => Ok(None),
        (None, MoveRequest::To(to)) => {
            Ok(Some(Intent { from: place.to_owned(), to: to.to_owned(), seq: None }))
        }
        (Some(intent), MoveRequest::Undo) if place == intent.to => Err(StoreError::Unusable(format!(
            "shard {shard} has moved already: run `tsp shard move {shard} --to '{}'` to end it",
            intent.to
        ))),
        (Some(intent), MoveRequest::To(to)) if to != intent.to => Err(StoreError::Unusable(format!(
            "shard {shard} is being moved to `{0}`: end it with `--to '{0}'`, or take it back with `--undo`",
            intent.to
        ))),
        (Some(intent), _) => Ok(Some(intent)),
    }
}
