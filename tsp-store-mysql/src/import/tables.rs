//! What is imported: tables of the embedded store, and where their rows go.

use std::fmt::Write as _;

use tsp_core::{ConfigId, ShardId, TaskId, TaskKey};
use tsp_store::backend::columns::{
    app_columns, attempt_columns, audit_columns, cursor_columns, history_columns, park_columns, task_columns,
};
use tsp_store::documents::{Sealer, Secrets, config_from_json, config_to_json};
use tsp_store::error::{Result, StoreError};
use tsp_store::transfer::{Cell, TableColumns};

use crate::connection::bind::key_hash;
use crate::tasks::idempotency;

/// Which shard has a row, by its first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    Meta,
    /// That of the task.
    Task,
    /// That of the config's schedule.
    Config,
    /// That of the record.
    Hash,
}

/// What a row has here and not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    None,
    /// The document's secrets are of another key.
    Secrets,
    /// The hash of the key, which is in this column.
    KeyHash(usize),
    /// The task of the record: with an answer nobody asks for it.
    NoTask,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TableImport {
    pub(super) out: TableColumns,
    /// In the order of what is read, and then what is added.
    into: &'static str,
    pub(super) home: Home,
    extra: Extra,
}

/// Where the key stands in the columns of a task and of an ended one.
const KEY_AT: usize = 18;

const KEPT: TableColumns = TableColumns {
    table: "idempotency",
    columns: "hash, body_hash, status, body, location, expires_at",
    keys: &["hash"],
};

const fn same(
    table: &'static str,
    columns: &'static str,
    keys: &'static [&'static str],
    home: Home,
) -> TableImport {
    TableImport { out: TableColumns { table, columns, keys }, into: columns, home, extra: Extra::None }
}

/// In this order, so that whatever is there has what it belongs to.
pub(super) const TABLES: [TableImport; 12] = [
    same("app", app_columns!(), &["id"], Home::Meta),
    TableImport {
        extra: Extra::Secrets,
        ..same(
            "config",
            "id, app_id, name, version, document, paused_by, paused_at, paused_note, created_at, updated_at",
            &["id"],
            Home::Meta,
        )
    },
    same(
        "api_key",
        "id, app_id, name, scopes, hash, prefix, rate_count, rate_per, expires_at, created_at",
        &["id"],
        Home::Meta,
    ),
    same("audit", audit_columns!(), &["id"], Home::Meta),
    same("cursor", cursor_columns!(), &["config_id"], Home::Config),
    same("config_state", concat!(park_columns!(), ", unparked_at"), &["config_id"], Home::Config),
    same(
        "occurrence",
        "config_id, execute_at, origin, task_id, late, made_at",
        &["config_id", "execute_at", "origin"],
        Home::Config,
    ),
    TableImport {
        out: TableColumns { table: "history", columns: history_columns!("key"), keys: &["id"] },
        into: concat!(history_columns!("task_key"), ", key_hash"),
        home: Home::Task,
        extra: Extra::KeyHash(KEY_AT),
    },
    same("attempt", attempt_columns!(), &["task_id", "attempt"], Home::Task),
    TableImport {
        out: TableColumns { table: "task", columns: task_columns!("key"), keys: &["id"] },
        into: concat!(task_columns!("task_key"), ", key_hash"),
        home: Home::Task,
        extra: Extra::KeyHash(KEY_AT),
    },
    // The embedded store keeps the answers of all calls together; here those about tasks are beside the tasks.
    TableImport {
        out: KEPT,
        into: "hash, body_hash, status, body, location, expires_at, task_id",
        home: Home::Hash,
        extra: Extra::NoTask,
    },
    TableImport { out: KEPT, into: KEPT.columns, home: Home::Meta, extra: Extra::None },
];

impl TableImport {
    /// The table of a shard, or of meta.
    pub(super) fn table(&self, shard: Option<ShardId>) -> String {
        match shard {
            Some(shard) => format!("{}_{:03}", self.out.table, shard.get()),
            None => self.out.table.to_owned(),
        }
    }

    /// The beginning and the end of a statement that writes rows. Those that are there stay.
    pub(super) fn statement(&self, shard: Option<ShardId>) -> (String, String) {
        let head = format!("-- carry\nINSERT INTO {} ({}) VALUES ", self.table(shard), self.into);
        let key = self.out.keys.first().copied().unwrap_or("id");
        (head, format!(" ON DUPLICATE KEY UPDATE {key} = {key}"))
    }

    /// `None`: meta.
    pub(super) fn home_of(&self, row: &[Cell], shards: u16) -> Result<Option<ShardId>> {
        let shard = match (self.home, row.first()) {
            (Home::Meta, _) => return Ok(None),
            (Home::Task, Some(Cell::Int(id))) => TaskId::new(*id).shard(),
            (Home::Config, Some(Cell::Int(id))) => {
                tsp_core::task_key::config_shard(ConfigId::new(*id), shards)
            }
            (Home::Hash, Some(Cell::Blob(hash))) => idempotency::home(hash, shards),
            (_, first) => return Err(self.odd(&format!("begins with {first:?}"))),
        };
        if shard.get() < shards {
            return Ok(Some(shard));
        }
        Err(self.odd(&format!("is of shard {}, and there are {shards}", shard.get())))
    }

    fn odd(&self, why: &str) -> StoreError {
        StoreError::Unusable(format!("a row of table `{}` {why}", self.out.table))
    }

    /// The row as a list of literals.
    pub(super) fn literals(&self, row: &mut [Cell], from: &Sealer, to: &Sealer) -> Result<String> {
        let mut text = String::with_capacity(512);
        let mut begin = '(';
        let mut put = |cell: &Cell| {
            text.push(begin);
            begin = ',';
            push(&mut text, cell);
        };
        if self.extra == Extra::Secrets
            && let Some(Cell::Text(document)) = row.get_mut(4)
        {
            *document = seal_again(document, from, to).map_err(|why| self.odd(&why))?;
        }
        row.iter().for_each(&mut put);
        match self.extra {
            Extra::None | Extra::Secrets => {}
            Extra::NoTask => put(&Cell::Int(0)),
            Extra::KeyHash(at) => put(&self.hash_of(row.get(at))?),
        }
        text.push(')');
        Ok(text)
    }

    fn hash_of(&self, key: Option<&Cell>) -> Result<Cell> {
        match key {
            Some(Cell::Null) => Ok(Cell::Null),
            Some(Cell::Text(key)) => {
                let key = TaskKey::of_stored(key)
                    .map_err(|why| self.odd(&format!("has the key `{key}`: {why}")))?;
                Ok(Cell::Blob(key_hash(&key).to_vec()))
            }
            other => Err(self.odd(&format!("has {other:?} for its key"))),
        }
    }
}

fn seal_again(document: &str, from: &Sealer, to: &Sealer) -> Result<String, String> {
    config_to_json(&config_from_json(document, from)?, Secrets::Seal(to))
}

fn push(text: &mut String, cell: &Cell) {
    let (begin, bytes) = match cell {
        Cell::Null => return text.push_str("NULL"),
        Cell::Int(number) => {
            let _ = write!(text, "{number}");
            return;
        }
        Cell::Text(words) => ("_utf8mb4 x'", words.as_bytes()),
        Cell::Blob(bytes) => ("x'", bytes.as_slice()),
    };
    text.push_str(begin);
    text.push_str(&hex::encode(bytes));
    text.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nth(columns: &str, at: usize) -> &str {
        columns.split(", ").nth(at).unwrap()
    }

    #[test]
    fn both_sides_name_as_many_columns_in_one_order() {
        for table_import in TABLES {
            let (out, into) = (table_import.out.columns.split(", "), table_import.into.split(", "));
            let added = usize::from(!matches!(table_import.extra, Extra::None | Extra::Secrets));
            assert_eq!(out.clone().count() + added, into.clone().count(), "{}", table_import.out.table);
            for (out, into) in out.clone().zip(into) {
                assert!(out == into || (out, into) == ("key", "task_key"), "{out} and {into}");
            }
            let keys: Vec<&str> = out.take(table_import.out.keys.len()).collect();
            assert_eq!(keys, table_import.out.keys, "the bookmark is the first cells of a row");
            if let Extra::KeyHash(at) = table_import.extra {
                assert_eq!(
                    (nth(table_import.out.columns, at), nth(table_import.into, at)),
                    ("key", "task_key")
                );
            }
        }
    }

    #[test]
    fn values_are_literals_that_no_text_can_leave() {
        let mut text = String::new();
        let cells = [Cell::Null, Cell::Int(-7), Cell::Text("'ä".to_owned()), Cell::Blob(vec![0, 39])];
        for cell in &cells {
            push(&mut text, cell);
        }
        assert_eq!(text, "NULL-7_utf8mb4 x'27c3a4'x'0027'");
    }
}
