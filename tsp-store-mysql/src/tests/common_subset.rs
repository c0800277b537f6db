//! The tests run on MariaDB; this one keeps what only MariaDB has out of the statements, so that MySQL 8 takes
//! them too. What each of the two has alone is chosen by the server's kind, in `pool.rs` only.

use std::path::{Path, PathBuf};

/// Words of MariaDB that MySQL 8 does not know, and what to write in their place.
const ONLY_MARIADB: &[(&str, &str)] = &[
    ("RETURNING", "read the rows first, under a lock"),
    ("VALUES(", "`ON DUPLICATE KEY UPDATE` with the old value; the new one is `VALUES (`, with a blank"),
    ("CREATE OR REPLACE", "a migration that expands"),
    ("COLUMN IF NOT EXISTS", "numbered migrations know what is there"),
    ("COLUMN IF EXISTS", "numbered migrations know what is there"),
    ("INDEX IF NOT EXISTS", "numbered migrations know what is there"),
    ("NEXTVAL", "the counter table"),
    ("NEXT VALUE FOR", "the counter table"),
    ("CREATE SEQUENCE", "the counter table"),
    ("SET STATEMENT", "a setting of the session"),
    ("ROWS EXAMINED", "`LIMIT`"),
    ("EXECUTE IMMEDIATE", "a text of its own"),
    ("FOR UPDATE WAIT", "`innodb_lock_wait_timeout`"),
    (" PERSISTENT,", "`STORED`"),
    ("PERSISTENT FOR", "`ANALYZE TABLE` alone"),
    ("SYSTEM VERSIONING", "the history tables"),
    ("JSON_DETAILED", "formatting in the program"),
    ("JSON_EXISTS", "`JSON_TABLE`"),
    ("REGEXP_REPLACE(", "globs, in the program"),
    ("TRANSACTIONAL=", "InnoDB's defaults"),
    ("PAGE_COMPRESSED", "InnoDB's defaults"),
    ("INET6", "text"),
];

/// Settings that one of the two servers does not have.
const BY_KIND: &[&str] = &[
    "max_statement_time",
    "max_execution_time",
    "idle_transaction_timeout",
    "in_predicate_conversion_threshold",
    "tx_isolation",
];

fn sources(folder: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of this repository") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() && !path.ends_with("tests") {
            found.extend(sources(&path, ending));
        } else if path.extension().is_some_and(|other| other == ending) {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            found.push((path, text));
        }
    }
    found
}

fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = sources(&root.join("../migrations/mysql"), "sql");
    assert!(!all.is_empty(), "there are migrations");
    let code = sources(&root.join("src"), "rs");
    assert!(code.len() > 40, "the back end has moved: {} files", code.len());
    all.extend(code);
    all
}

/// Comments may name what is not used.
fn statements(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn no_statement_needs_mariadb() {
    let mut found = Vec::new();
    for (path, text) in all() {
        let text = statements(&text);
        for (word, instead) in ONLY_MARIADB {
            if text.contains(word) {
                found.push(format!("{}: `{word}`: {instead}", path.display()));
            }
        }
        for word in BY_KIND {
            if text.contains(word) && !path.ends_with("pool.rs") {
                found.push(format!("{}: `{word}` belongs into pool.rs", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// MySQL 8 takes a literal default neither for a text nor for a blob, and has no other partition names or types.
#[test]
fn no_table_needs_mariadb() {
    for (path, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/mysql"), "sql") {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
            let long = ["TEXT", "BLOB"].iter().any(|kind| line.contains(kind));
            assert!(!(long && line.contains("DEFAULT")), "{}: {line}", path.display());
            for kind in [" UUID", "BOOLEAN", " JSON", "DATETIME", "ENUM", "UNSIGNED", "DECIMAL"] {
                assert!(!line.contains(kind), "{}: `{kind}` is read in two ways: {line}", path.display());
            }
        }
    }
}
