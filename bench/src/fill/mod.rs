//! Rows that nobody would wait for: copies of rows that the product has written, made by the database itself in large
//! transactions. Columns that are not named here are copied as they stand, and computed ones are left to the database.
//! The processes must be stopped.

pub(crate) mod mariadb;
pub(crate) mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peers::MariaDb;

use crate::cluster::Databases;
use crate::measure::instant;
use crate::tasks::{KEY_FACTOR, KEY_MODULUS};

/// Bits of an id below its time.
const BELOW_TIME: u32 = 22;
/// How often a fill says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// What a disk must have left when all is filled.
const LEFT_BYTES: u64 = 2 << 30;

/// Where rows are copied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tables<'a> {
    File(&'a Path),
    Cluster { server: &'a MariaDb, databases: &'a Databases },
}

impl Tables<'_> {
    /// Ended tasks of these configs, about so many in all: copies of the one that each has, each two of them a
    /// millisecond apart. The keys of a config's are those of [`crate::tasks::Keys::Ended`].
    pub(crate) fn add_history(self, configs: &[String], rows: u64) -> Result<()> {
        match self {
            Self::File(file) => sqlite::add_history(file, configs.len(), rows),
            Self::Cluster { server, databases } => mariadb::add_history(server, databases, configs, rows),
        }
    }

    /// So many copies of the config `<prefix>-0`: `<prefix>-1` and so on.
    pub(crate) fn add_configs(self, prefix: &str, copies: u64) -> Result<()> {
        match self {
            Self::File(file) => sqlite::add_configs(file, prefix, copies),
            Self::Cluster { server, databases } => mariadb::add_configs(server, databases, prefix, copies),
        }
    }

    /// Lets the schedules of all configs `<prefix>-…` that have no cursor stand at this slot.
    pub(crate) fn add_cursors(self, prefix: &str, next_fire_at: i64) -> Result<()> {
        match self {
            Self::File(file) => sqlite::add_cursors(file, prefix, next_fire_at),
            Self::Cluster { server, databases } => {
                mariadb::add_cursors(server, databases, prefix, next_fire_at)
            }
        }
    }
}

/// Says now and then how far a fill is.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    what: &'a str,
    total: u64,
    start: Instant,
    said: Instant,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(what: &'a str, total: u64) -> Self {
        Self { what, total, start: instant(), said: instant() }
    }

    pub(crate) fn at(&mut self, done: u64) {
        if self.said.elapsed() < SAY_EVERY || done == 0 {
            return;
        }
        self.said = instant();
        let (what, total) = (self.what, self.total);
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (made, left) = (done as f64, total.saturating_sub(done) as f64);
        let rate = made / self.start.elapsed().as_secs_f64();
        println!("  {what}: {done} of {total}, {rate:.0}/s, {:.0} s left", left / rate);
    }
}

/// The numbers `1..=total` in runs of this many.
fn chunks(total: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    let size = size.max(1);
    (0..total.div_ceil(size)).map(move |chunk| (chunk * size + 1, total.min((chunk + 1) * size)))
}

/// Fails unless the disk of the private folders holds so many rows: better now than in an hour.
pub(crate) fn ensure_room(rows: u64, bytes_a_row: u64) -> Result<()> {
    let dir = std::env::temp_dir();
    let disk = rustix::fs::statvfs(&dir).with_context(|| format!("the room in `{}`", dir.display()))?;
    let (free, needed) = (disk.f_bavail * disk.f_frsize, rows * bytes_a_row);
    ensure!(
        needed + LEFT_BYTES <= free,
        "{rows} rows take some {} GB, and `{}` has {} GB: give fewer rows, `--bare` ones, or another `TMPDIR`",
        needed / 1_000_000_000,
        dir.display(),
        free / 1_000_000_000
    );
    Ok(())
}

/// Copies of some rows, each of them copied this often. The expression `n` numbers the copies of a row, from 1 for the
/// oldest; `place` numbers the rows, from 0.
#[derive(Debug, Clone, Copy)]
struct Copies<'a> {
    n: &'a str,
    place: &'a str,
    rows: u64,
    each: u64,
}

impl Copies<'_> {
    /// By how many ms a copy is older than its row: all of them differ, and ids rise.
    fn age(self) -> String {
        format!("(({} - {}) * {} - {})", self.each + 1, self.n, self.rows, self.place)
    }

    /// An id as much older than `newest` as the copy is, with the shard of the row.
    fn id(self, newest: i64) -> String {
        let below = (1_i64 << BELOW_TIME) - 1;
        format!("(({} - {}) << {BELOW_TIME}) | (t.id & {below})", newest >> BELOW_TIME, self.age())
    }

    fn key_number(self) -> String {
        format!("{} * {KEY_FACTOR} % {KEY_MODULUS}", self.n)
    }
}

/// The value of each column in a copy of the row `t`.
fn values(columns: &[String], value: impl Fn(&str) -> Option<String>) -> String {
    let of = |column: &String| value(column).unwrap_or_else(|| format!("t.{column}"));
    columns.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Of an ended task: as much older as it is away from the newest.
fn ended(copies: Copies<'_>, newest: i64, column: &str) -> Option<String> {
    match column {
        "id" => Some(copies.id(newest)),
        time if time.ends_with("_at") => Some(format!("t.{time} - {}", copies.age())),
        _ => None,
    }
}
