//! The tables of a shard, under the names they have in a move.
use tsp_core::ShardId;
use tsp_store::error::{Result, StoreError};

use crate::connection::link::Link;

/// A table of a shard, and the columns that its rows are scanned by: the first ones of its primary key, with
/// few rows for each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) scan: &'static [&'static str],
}

pub(super) const TABLES: [Table; 8] = [
    Table { name: "task", scan: &["id"] },
    Table { name: "history", scan: &["id"] },
    Table { name: "attempt", scan: &["task_id"] },
    Table { name: "cursor", scan: &["config_id"] },
    Table { name: "occurrence", scan: &["config_id", "execute_at"] },
    Table { name: "idempotency", scan: &["hash"] },
    Table { name: "balance", scan: &["node"] },
    Table { name: "config_state", scan: &["config_id"] },
];

/// What a table is called. Under its own name a shard's tables are in one database at most, so whoever goes
/// by an old map finds no table, and never a stale one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// At the target, not complete.
    Copy,
    /// In use.
    Live,
    /// At the source, not written any more.
    Moved,
}

impl Stage {
    pub(super) fn table(self, table: Table, shard: ShardId) -> String {
        let prefix = match self {
            Self::Copy => "copy_",
            Self::Live => "",
            Self::Moved => "moved_",
        };
        format!("{prefix}{}_{:03}", table.name, shard.get())
    }
}

/// A column, and what kind of literal its values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    kind: Kind,
    /// The server makes its values, and takes none.
    pub(super) generated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

impl Column {
    /// An expression that gives the value as a literal.
    pub(super) fn literal(&self) -> String {
        let Self { name, kind, .. } = self;
        match kind {
            Kind::Number => format!("COALESCE(CAST(`{name}` AS CHAR), 'NULL')"),
            Kind::Text => format!("COALESCE(CONCAT('_utf8mb4 x''', HEX(`{name}`), ''''), 'NULL')"),
            Kind::Bytes => format!("COALESCE(CONCAT('x''', HEX(`{name}`), ''''), 'NULL')"),
        }
    }

    /// `kind` and `extra` as the server shows them: `bigint(20)`, `STORED GENERATED`.
    fn read(name: String, kind: &str, extra: &str) -> Result<Self> {
        let kind = match kind.split('(').next().unwrap_or_default() {
            "tinyint" | "smallint" | "int" | "bigint" => Kind::Number,
            "varchar" | "text" | "mediumtext" => Kind::Text,
            "binary" | "varbinary" | "blob" | "mediumblob" => Kind::Bytes,
            other => {
                return Err(StoreError::Internal(format!("column `{name}` is of type `{other}`")));
            }
        };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Ok(Self { name, kind, generated: extra.contains("GENERATED") });
        }
        Err(StoreError::Internal(format!("`{name}` is no column of ours")))
    }
}

/// Asked so that it waits for a change of the table: the server's lists of tables and columns do not, and may
/// lack one that is being changed.
pub(super) async fn columns(link: &mut Link, table: &str) -> Result<Vec<Column>> {
    let rows = link.rows(format!("-- columns\nSHOW COLUMNS FROM {table}")).await?;
    rows.iter().map(|row| Column::read(row.get(0)?, row.get(1)?, row.get(5)?)).collect()
}

/// The tables of a shard that are there in this stage; asked as [`columns`] are.
pub(super) async fn there(link: &mut Link, stage: Stage, shard: ShardId) -> Result<Vec<Table>> {
    let mut found = Vec::new();
    for table in TABLES {
        if link.has(&stage.table(table, shard)).await? {
            found.push(table);
        }
    }
    Ok(found)
}

/// All or none of them, in one statement.
pub(super) async fn rename(
    link: &mut Link,
    shard: ShardId,
    tables: &[Table],
    from: Stage,
    to: Stage,
) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let each =
        tables.iter().map(|table| format!("{} TO {}", from.table(*table, shard), to.table(*table, shard)));
    link.run(format!("-- shard_rename\nRENAME TABLE {}", each.collect::<Vec<_>>().join(", "))).await?;
    Ok(())
}

pub(super) async fn drop_all(link: &mut Link, stage: Stage, shard: ShardId) -> Result<()> {
    let names = TABLES.map(|table| stage.table(table, shard)).join(", ");
    link.run(format!("-- shard_drop\nDROP TABLE IF EXISTS {names}")).await?;
    Ok(())
}

/// Makes the tables of the copy as those of the source are: with the same columns, keys and days.
pub(super) async fn make_copies(
    source: &mut Link,
    target: &mut Link,
    shard: ShardId,
    stage: Stage,
) -> Result<()> {
    let there = there(target, Stage::Copy, shard).await?;
    for table in TABLES {
        let (name, copy) = (stage.table(table, shard), Stage::Copy.table(table, shard));
        if there.contains(&table) {
            if columns(source, &name).await? == columns(target, &copy).await? {
                continue;
            }
            // The schema was changed since: what was copied is of the old one.
            target.run(format!("-- copy_drop\nDROP TABLE {copy}")).await?;
        }
        let rows = source.rows(format!("-- table_text\nSHOW CREATE TABLE {name}")).await?;
        let text: String = match rows.first() {
            Some(row) => row.get(1)?,
            None => return Err(StoreError::Internal(format!("`{name}` has no text"))),
        };
        let named = format!("CREATE TABLE `{name}`");
        let Some(rest) = text.strip_prefix(&named) else {
            return Err(StoreError::Internal(format!("the text of `{name}` begins with something else")));
        };
        target.run(format!("-- copy_make\nCREATE TABLE `{copy}`{rest}")).await?;
    }
    Ok(())
}
