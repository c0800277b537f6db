//! Rows in the file of an embedded store.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, OptionalExtension as _};

use super::{Copies, Progress, chunks, ended, values};

/// Rows in a transaction.
const CHUNK: u64 = 500_000;
/// With what a crash of this machine may take: it would be a benchmark.
const FOR_FILLING: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000";
const COPIES: Copies<'static> = Copies { n: "n.x", place: "t.place", rows: 1, each: 0 };

/// What is copied, into which table.
struct Copy<'a> {
    table: &'a str,
    /// The rows, each with its `place`.
    template: &'a str,
    columns: &'a [String],
    copies: Copies<'static>,
}

fn open(file: &Path) -> Result<Connection> {
    let writer = Connection::open(file)?;
    writer.execute_batch(FOR_FILLING)?;
    Ok(writer)
}

/// Those of a table that take values: computed ones are not among them.
fn columns(writer: &Connection, table: &str) -> Result<Vec<String>> {
    let mut columns = writer.prepare("SELECT name FROM pragma_table_info(?1)")?;
    Ok(columns.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn key(copies: Copies<'_>) -> String {
    format!("printf('order-%016x', {})", copies.key_number())
}

impl Copy<'_> {
    fn run(&self, writer: &Connection, value: impl Fn(&str) -> Option<String>) -> Result<()> {
        let Self { table, template, columns, copies } = self;
        writer.execute_batch(&format!("CREATE TEMP TABLE template AS {template}"))?;
        // The copies are numbered outside and the rows within, so that ids rise.
        let mut insert = writer.prepare(&format!(
            "INSERT INTO {table} ({})
             WITH RECURSIVE n (x) AS (SELECT ?1 UNION ALL SELECT x + 1 FROM n WHERE x < ?2)
             SELECT {} FROM n CROSS JOIN temp.template t",
            columns.join(", "),
            values(columns, value)
        ))?;
        let what = format!("rows of `{table}`");
        let mut progress = Progress::new(&what, copies.each * copies.rows);
        for (first, last) in chunks(copies.each, CHUNK / copies.rows) {
            insert.execute([i64::try_from(first)?, i64::try_from(last)?])?;
            progress.at(last * copies.rows);
        }
        drop(insert);
        writer.execute_batch("DROP TABLE temp.template")?;
        Ok(())
    }
}

/// An index is made of rows that are there several times faster than row by row.
fn without_indexes(writer: &Connection, table: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut find = writer.prepare(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql <> ''",
    )?;
    let indexes = find.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let indexes = indexes.collect::<Result<Vec<(String, String)>, _>>()?;
    for (name, _) in &indexes {
        writer.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    fill()?;
    let mut progress = Progress::new("indexes", indexes.len() as u64);
    for ((_, sql), done) in indexes.iter().zip(1..) {
        writer.execute_batch(sql)?;
        progress.at(done);
    }
    Ok(())
}

/// See [`super::Tables::add_history`].
pub(super) fn add_history(file: &Path, configs: usize, rows: u64) -> Result<()> {
    let writer = open(file)?;
    let (count, newest) = writer.query_row("SELECT COUNT(*), MIN(id) FROM history", [], |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    let (count, newest) = (u64::from(count), newest.unwrap_or_default());
    ensure!(count == configs as u64 && count > 0, "{count} tasks of {configs} configs have ended");
    let copies = Copies { rows: count, each: rows / count, ..COPIES };
    let columns = columns(&writer, "history")?;
    let template =
        "SELECT *, row_number() OVER (ORDER BY config_id) - 1 AS place FROM history ORDER BY config_id";
    without_indexes(&writer, "history", || {
        Copy { table: "history", template, columns: &columns, copies }.run(&writer, |column| {
            if column == "key" { Some(key(copies)) } else { ended(copies, newest, column) }
        })
    })?;
    let added = i64::try_from(copies.each * copies.rows)?;
    writer.execute("UPDATE balance SET accepted = accepted + ?1, ended = ended + ?1", [added])?;
    Ok(())
}

/// What open tasks are like that are added.
#[derive(Clone, Copy)]
pub(crate) struct OpenTasks<'a> {
    /// Copies of each of the tasks that are there, which are of as many configs.
    pub(crate) copies: u64,
    /// When a copy is due: an expression, given its number from 1 and the place of its config from 0.
    pub(crate) due: &'a dyn Fn(&str, &str) -> String,
    /// Without keys and payloads.
    pub(crate) bare: bool,
}

/// Open tasks that are scheduled. Returns the configs by their places.
pub(crate) fn add_open(file: &Path, open_tasks: OpenTasks<'_>) -> Result<Vec<i64>> {
    let OpenTasks { copies, due, bare } = open_tasks;
    let writer = open(file)?;
    let mut configs = writer.prepare("SELECT config_id FROM task ORDER BY config_id")?;
    let configs = configs.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let newest = writer.query_row("SELECT MIN(id) FROM task", [], |row| row.get::<_, Option<i64>>(0))?;
    let newest = newest.unwrap_or_default();
    let copies = Copies { rows: configs.len() as u64, each: copies, ..COPIES };
    ensure!(copies.rows > 0, "there is no open task to be copied");
    let columns = columns(&writer, "task")?;
    let template =
        "SELECT *, row_number() OVER (ORDER BY config_id) - 1 AS place FROM task ORDER BY config_id";
    let value = |column: &str| match column {
        "id" => Some(copies.id(newest)),
        "due_at" | "execute_at" | "first_due_at" => Some(due(copies.n, copies.place)),
        "created_at" => Some(format!("t.created_at - {}", copies.age())),
        "key" | "payload" if bare => Some("NULL".to_owned()),
        "key" => Some(key(copies)),
        _ => None,
    };
    without_indexes(&writer, "task", || {
        Copy { table: "task", template, columns: &columns, copies }.run(&writer, value)
    })?;
    let added = i64::try_from(copies.each * copies.rows)?;
    writer.execute("UPDATE balance SET accepted = accepted + ?1", [added])?;
    Ok(configs)
}

/// See [`super::Tables::add_configs`].
pub(super) fn add_configs(file: &Path, prefix: &str, copies: u64) -> Result<()> {
    let writer = open(file)?;
    let found = "SELECT id FROM config WHERE name = ?1";
    let first = writer.query_row(found, [format!("{prefix}-0")], |row| row.get::<_, i64>(0)).optional()?;
    ensure!(first.is_some(), "there is no config `{prefix}-0`");
    let mut columns = columns(&writer, "config")?;
    columns.retain(|column| column != "id");
    let template = format!("SELECT * FROM config WHERE name = '{prefix}-0'");
    let copies = Copies { each: copies, ..COPIES };
    Copy { table: "config", template: &template, columns: &columns, copies }.run(&writer, |column| {
        let name = format!("'{prefix}-' || {}", copies.n);
        match column {
            "name" => Some(name),
            "document" => Some(format!("replace(t.document, '\"{prefix}-0\"', '\"' || {name} || '\"')")),
            _ => None,
        }
    })
}

/// See [`super::Tables::add_cursors`].
pub(super) fn add_cursors(file: &Path, prefix: &str, next_fire_at: i64) -> Result<()> {
    open(file)?.execute(
        "INSERT OR IGNORE INTO cursor (config_id, next_fire_at, version, config_version, missed)
         SELECT id, ?1, 1, version, 0 FROM config WHERE name LIKE ?2",
        (next_fire_at, format!("{prefix}-%")),
    )?;
    Ok(())
}
