//! The columns of each table, in the one order in which they are written, read ([`super::row`]) and imported.
//!
//! `$key` is the column of a task's key, which the back ends call differently.

/// From the version to the epoch: the same columns of open and of ended tasks.
#[macro_export]
#[doc(hidden)]
macro_rules! progress_columns {
    () => {
        "version, due_at, execute_at, first_due_at, created_at, attempt, charged, losses, epoch"
    };
}

/// From the origin to the last outcome, likewise.
#[macro_export]
#[doc(hidden)]
macro_rules! made_columns {
    ($key:literal) => {
        concat!(
            "origin, sharding_id, sharding_count, parent_id, ",
            $key,
            ", key_slot, started_at, begun_due_at, expire_after, token, last_attempt, last_kind, last_reason, \
             last_status, last_at"
        )
    };
}

/// An open task but for what it carries.
#[macro_export]
#[doc(hidden)]
macro_rules! bare_task_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, status, ",
            $crate::backend::columns::progress_columns!(),
            ", node, cancel_requested, ",
            $crate::backend::columns::made_columns!($key)
        )
    };
}

/// An open task as it is stored.
#[macro_export]
#[doc(hidden)]
macro_rules! task_columns {
    ($key:literal) => {
        concat!($crate::backend::columns::bare_task_columns!($key), ", extra, payload")
    };
}

/// An ended task as it is stored. `last_node`: who ran the attempt that ended it.
#[macro_export]
#[doc(hidden)]
macro_rules! history_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, result, ended_at, ",
            $crate::backend::columns::progress_columns!(),
            ", last_node, ",
            $crate::backend::columns::made_columns!($key),
            ", extra, payload"
        )
    };
}

/// An open task as [`super::row::read_task`] reads it.
#[macro_export]
#[doc(hidden)]
macro_rules! open_columns {
    ($key:literal) => {
        concat!($crate::backend::columns::task_columns!($key), ", NULL AS result, NULL AS ended_at")
    };
}

/// An ended one, likewise.
#[macro_export]
#[doc(hidden)]
macro_rules! ended_columns {
    ($key:literal) => {
        concat!(
            "id, config_id, 50 AS status, ",
            $crate::backend::columns::progress_columns!(),
            ", NULL AS node, 0 AS cancel_requested, ",
            $crate::backend::columns::made_columns!($key),
            ", extra, payload, result, ended_at"
        )
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! attempt_columns {
    () => {
        "task_id, attempt, started_at, ended_at, due_at, node, kind, reason, http_status, excerpt"
    };
}

/// What a claim needs of a row that workers load.
#[macro_export]
#[doc(hidden)]
macro_rules! claimable_columns {
    () => {
        "id, version, due_at, execute_at, expire_after, attempt"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! in_flight_columns {
    () => {
        "id, config_id, status, due_at, version, epoch, node, attempt"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! cursor_columns {
    () => {
        "config_id, next_fire_at, version, config_version, waiting, missed"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! park_columns {
    () => {
        "config_id, parked_since, parked_until, parked_by"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! app_columns {
    () => {
        "id, name, description, owner, created_at, updated_at"
    };
}

/// A config `c` with the name of its app `a`.
#[macro_export]
#[doc(hidden)]
macro_rules! config_columns {
    () => {
        "c.id, c.app_id, c.version, c.document, c.paused_by, c.paused_at, c.paused_note, c.created_at, \
         c.updated_at, a.name"
    };
}

/// But for the hash, by which it is found.
#[macro_export]
#[doc(hidden)]
macro_rules! api_key_columns {
    () => {
        "id, app_id, name, scopes, prefix, rate_count, rate_per, expires_at, created_at"
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! audit_columns {
    () => {
        "id, at, actor, action, subject, detail"
    };
}

pub use {
    api_key_columns, app_columns, attempt_columns, audit_columns, bare_task_columns, claimable_columns,
    config_columns, cursor_columns, ended_columns, history_columns, in_flight_columns, made_columns,
    open_columns, park_columns, progress_columns, task_columns,
};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    type Tables = BTreeMap<String, Vec<String>>;

    /// Tables of both back ends: the columns that only SQLite has, and those that only MySQL has.
    const DIFFERENCES: [(&str, &[&str], &[&str]); 7] = [
        // What fills the row as it grows, in MySQL alone.
        ("task", &["key", "shard"], &["task_key", "key_hash", "padding"]),
        ("history", &["key", "shard"], &["task_key", "key_hash"]),
        // The answer is written after the rows, which stand in another table.
        ("shard/idempotency", &[], &["task_id"]),
        // One writer; or a sum for each process.
        ("balance", &["id"], &["node"]),
        // One process; or nodes that see each other by their rows.
        (
            "node",
            &[],
            &[
                "roles",
                "version",
                "address",
                "renewals",
                "lease_until",
                "config_seq",
                "clock_offset",
                "running",
                "pairs",
            ],
        ),
        ("id_slot", &[], &["node"]),
        ("shard_lease", &["taken_at"], &["group_name", "lease_until"]),
    ];

    /// Tables that only one of them has.
    const SQLITE_ALONE: [&str; 1] = ["config_change"];
    const MYSQL_ALONE: [&str; 3] = ["change_log", "counter", "shard_place"];

    /// Of each table, as all migrations of a folder leave it.
    fn tables(folder: &str) -> Tables {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(folder);
        let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut tables = Tables::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
            for statement in lines.collect::<Vec<_>>().join("\n").split(';') {
                // An `ALTER` of MySQL stands in quotes, to be done only where it was not.
                let words: Vec<&str> = statement
                    .split_whitespace()
                    .map(|word| word.trim_start_matches('\''))
                    .filter(|word| !["IF", "NOT", "EXISTS"].contains(word))
                    .collect();
                if let ["CREATE", "TABLE", table, ..] = words[..] {
                    let columns =
                        statement.lines().filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
                    let is_column = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
                    tables.insert(plain(table), columns.filter(is_column).map(str::to_owned).collect());
                } else if let Some(at) = words.windows(2).position(|pair| pair == ["ALTER", "TABLE"]) {
                    let columns = tables.get_mut(&plain(words[at + 2])).expect("a table that was made");
                    for three in words[at..].windows(3) {
                        match three {
                            ["ADD", "COLUMN", column] => columns.push((*column).to_owned()),
                            ["DROP", "COLUMN", column] => columns.retain(|other| other != column),
                            _ => {}
                        }
                    }
                }
            }
        }
        tables
    }

    /// `task_{shard}` is `task`.
    fn plain(table: &str) -> String {
        table.trim_end_matches("_{shard}").to_owned()
    }

    fn without(columns: &[String], alone: &[&str]) -> Vec<String> {
        columns.iter().filter(|column| !alone.contains(&column.as_str())).cloned().collect()
    }

    #[test]
    fn migrations_of_both_back_ends_make_the_same_columns_but_for_those_that_are_listed() {
        let sqlite = tables("sqlite");
        let mut differ = BTreeSet::new();
        let mut met = BTreeSet::new();
        for folder in ["mysql/meta", "mysql/source", "mysql/shard"] {
            for (table, mysql) in tables(folder) {
                let Some(sqlite) = sqlite.get(&table) else {
                    assert!(MYSQL_ALONE.contains(&table.as_str()), "only MySQL has the table `{table}`");
                    continue;
                };
                met.insert(table.clone());
                let in_shard = format!("shard/{table}");
                let listed = DIFFERENCES
                    .iter()
                    .find(|(name, ..)| *name == table || folder == "mysql/shard" && *name == in_shard);
                let (_, sqlite_alone, mysql_alone) = listed.copied().unwrap_or(("", &[], &[]));
                assert_eq!(
                    without(sqlite, sqlite_alone),
                    without(&mysql, mysql_alone),
                    "columns of `{table}`"
                );
                let gone = sqlite_alone.iter().filter(|column| !sqlite.iter().any(|other| other == *column));
                let gone = gone
                    .chain(mysql_alone.iter().filter(|column| !mysql.iter().any(|other| other == *column)));
                assert_eq!(gone.collect::<Vec<_>>(), [&""; 0], "listed for `{table}`, and not there");
                differ.extend(listed.map(|(name, ..)| *name));
            }
        }
        let alone: Vec<&str> =
            sqlite.keys().filter(|table| !met.contains(*table)).map(String::as_str).collect();
        assert_eq!(alone, SQLITE_ALONE);
        assert_eq!(differ, BTreeSet::from(DIFFERENCES.map(|(name, ..)| name)));
    }

    #[test]
    fn the_lists_name_the_columns_of_their_tables_in_their_order() {
        let shown = |tables: &Tables, table: &str, alone: &[&str]| without(&tables[table], alone).join(", ");
        let (sqlite, mysql) = (tables("sqlite"), tables("mysql/shard"));
        assert_eq!(task_columns!("key"), shown(&sqlite, "task", &["shard", "phase"]));
        assert_eq!(task_columns!("task_key"), shown(&mysql, "task", &["key_hash", "phase", "padding"]));
        assert_eq!(history_columns!("key"), shown(&sqlite, "history", &["shard"]));
        assert_eq!(history_columns!("task_key"), shown(&mysql, "history", &["key_hash"]));
        assert_eq!(attempt_columns!(), shown(&sqlite, "attempt", &[]));
        assert_eq!(cursor_columns!(), shown(&sqlite, "cursor", &[]));
        assert_eq!(park_columns!(), shown(&sqlite, "config_state", &["unparked_at"]));
        assert_eq!(app_columns!(), shown(&sqlite, "app", &[]));
        assert_eq!(api_key_columns!(), shown(&sqlite, "api_key", &["hash"]));
        assert_eq!(audit_columns!(), shown(&sqlite, "audit", &[]));
    }
}
