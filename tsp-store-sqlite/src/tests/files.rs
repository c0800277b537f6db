//! The file: opening, refusing, backup, keys.

use std::fs;
use std::time::Duration;

use rusqlite::Connection;
use tsp_store::catalog::CHANGES_KEPT;
use tsp_store::error::StoreError;
use tsp_store::fetching::AuditorStore as _;
use tsp_store::tasks::TaskStore as _;

use super::*;
use crate::connection::fold::look_for_damage;
use crate::file::private;
use crate::{DatabaseLocation, ServeLock};

fn refused(options: &SqliteOptions) -> String {
    match SqliteStore::open(options, NOW) {
        Err(StoreError::Unusable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await;
    store.submit(vec![submit(new_task(1, config.id, Some("k")))], NOW).await.unwrap();
    store.close().await;
    drop(store);
    let again = open(dir.path());
    assert_eq!(again.config_cache().config(config.id), Some(config.clone()), "secrets included");
    assert_eq!(again.config_cache().seq(), 1);
    let task = again.task_by_key(config.id, &TaskKey::new("k").unwrap()).await.unwrap();
    assert_eq!(task, Some(new_task(1, config.id, Some("k"))));
}

#[cfg(unix)]
#[tokio::test]
async fn every_file_is_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    make_config(&store, "a").await;
    store.backup(&dir.path().join("copy.db")).await.unwrap();
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    for wanted in ["tsp.db", "tsp.db-wal", "tsp.db-shm", "tsp.db.key", "copy.db"] {
        let path = dir.path().join(wanted);
        assert!(files.contains(&path), "{files:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{wanted}");
    }
    let database = dir.path().join("tsp.db");
    assert!(private::open_to_others(&database).is_empty());
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(private::open_to_others(&database), [database], "it is named at the next start");
}

#[tokio::test]
async fn secrets_stand_nowhere_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await;
    let hold = tsp_store::catalog::Hold::Pause { note: Some("for a while".to_owned()) };
    store.hold_config(config.id, hold, &Actor::system(), NOW).await.unwrap();
    store.close().await;
    let bytes = fs::read(dir.path().join("tsp.db")).unwrap();
    for secret in ["Bearer hush", "whsec_aHVzaA=="] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret}");
    }
    assert!(open(dir.path()).config_cache().config(config.id).unwrap().paused.is_some());
}

#[tokio::test]
async fn a_database_with_secrets_is_not_opened_without_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tsp.db.key");
    let store = open(dir.path());
    let config = make_config(&store, "a").await;
    store.close().await;
    let key = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let why = refused(&options(dir.path()));
    assert!(why.contains("tsp.db.key` is missing") && why.contains("old key file"), "{why}");
    assert!(!path.exists(), "another key would only hide what is wrong");

    fs::write(&path, "07".repeat(32)).unwrap();
    let why = refused(&options(dir.path()));
    assert!(why.contains("tsp.db.key") && why.contains("is not the one"), "{why}");

    fs::write(&path, &key).unwrap();
    assert_eq!(open(dir.path()).config_cache().config(config.id).unwrap(), config);
    fs::remove_file(&path).unwrap();
    let mut bytes = [0; 32];
    hex::decode_to_slice(key.trim(), &mut bytes).unwrap();
    let given = SqliteOptions { secret_key: Some(bytes), ..options(dir.path()) };
    assert_eq!(SqliteStore::open(&given, NOW).unwrap().config_cache().config(config.id).unwrap(), config);
}

/// There is nothing that the lost key would open.
#[test]
fn a_database_without_secrets_gets_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tsp.db.key");
    drop(open(dir.path()));
    let first = fs::read(&path).unwrap();
    drop(open(dir.path()));
    assert_eq!(fs::read(&path).unwrap(), first, "it stays while it is there");
    fs::remove_file(&path).unwrap();
    drop(open(dir.path()));
    assert_ne!(fs::read(&path).unwrap(), first);
    drop(open(dir.path()));
}

#[test]
fn says_what_to_do_about_a_place_that_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| SqliteOptions {
        location: DatabaseLocation::File(dir.path().join(name)),
        ..options(dir.path())
    };
    let why = refused(&at("missing/tsp.db"));
    assert!(why.contains("missing") && why.contains("does not exist"), "{why}");

    fs::write(dir.path().join("text.db"), "this is a text of more than a hundred bytes. ".repeat(9)).unwrap();
    let why = refused(&at("text.db"));
    assert!(why.contains("text.db") && why.contains("not a SQLite database"), "{why}");

    let other = Connection::open(dir.path().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
    let why = refused(&at("other.db"));
    assert!(why.contains("another program"), "{why}");

    fs::create_dir(dir.path().join("dir.db")).unwrap();
    let why = refused(&at("dir.db"));
    assert!(why.contains("dir.db") && why.contains("cannot be opened"), "{why}");
}

#[test]
fn refuses_a_newer_schema_and_another_number_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let why = refused(&SqliteOptions { shards: 8, ..options(dir.path()) });
    assert!(why.contains("1 shards") && why.contains("store.shards = 1`"), "{why}");
    let why = refused(&SqliteOptions { shards: 513, ..options(dir.path()) });
    assert!(why.contains("1 to 512"), "{why}");
    let conn = Connection::open(dir.path().join("tsp.db")).unwrap();
    conn.execute("INSERT INTO schema_migration VALUES (999, 'later', '', 0)", []).unwrap();
    let why = refused(&options(dir.path()));
    assert!(why.contains("schema 999") && why.contains("newer binary"), "{why}");
}

#[tokio::test]
async fn a_backup_while_writing_is_whole_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let to = dir.path().join("backup.db");
    let writing = async {
        for id in 1..=300 {
            store.submit(vec![submit(new_task(id, config, None))], NOW).await.unwrap();
        }
    };
    let (backup, ()) = tokio::join!(store.backup(&to), writing);
    backup.unwrap();
    let why = store.backup(&to).await.unwrap_err().to_string();
    assert!(why.contains("backup.db` exists"), "{why}");
    let leftovers = fs::read_dir(dir.path()).unwrap().flatten();
    assert!(leftovers.into_iter().all(|file| !file.file_name().to_string_lossy().contains("partial")));

    fs::copy(dir.path().join("tsp.db.key"), dir.path().join("backup.db.key")).unwrap();
    let copy = SqliteStore::open(
        &SqliteOptions { location: DatabaseLocation::File(to), ..options(dir.path()) },
        NOW,
    )
    .unwrap();
    assert_eq!(copy.check().await.unwrap(), Vec::<String>::new());
    assert!(copy.config_cache().config(config).is_some());
    let audit = copy.audit(NOW).await.unwrap();
    assert_eq!(audit.open.iter().map(|(_, count)| count).sum::<i64>(), audit.accepted);
}

#[tokio::test]
async fn other_commands_work_beside_a_serving_process() {
    let dir = tempfile::tempdir().unwrap();
    let lock = ServeLock::acquire(&dir.path().join("tsp.db")).unwrap();
    let server = open(dir.path());
    let beside = open(dir.path());
    let key = tsp_store::catalog::NewKey {
        app: None,
        name: "first".to_owned(),
        scopes: vec![tsp_store::catalog::Scope::Admin],
        hash: [7; 32],
        prefix: "tsp_abc".to_owned(),
        rate_limit: None,
        expires_at: None,
    };
    let made = beside.create_key(key, &Actor("cli".to_owned()), NOW).await.unwrap();
    assert_eq!(server.key_by_hash(&[7; 32]).await.unwrap(), Some(made));
    drop(lock);
}

#[tokio::test]
async fn a_store_in_memory_reads_what_it_wrote() {
    let store = SqliteStore::open(&SqliteOptions { shards: 1, ..SqliteOptions::memory() }, NOW).unwrap();
    let config = make_config(&store, "a").await.id;
    store.submit(vec![submit(new_task(1, config, None))], NOW).await.unwrap();
    assert!(store.task(TaskId::new(1)).await.unwrap().is_some());
    let to = std::path::Path::new("nowhere.db");
    assert!(matches!(store.backup(to).await, Err(StoreError::Unusable(_))));
}

#[tokio::test]
async fn the_change_log_of_a_config_keeps_its_newest_entries() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = make_config(&store, "a").await;
    let hold = |note: i64| tsp_store::catalog::Hold::Pause { note: Some(note.to_string()) };
    let save = SaveConfig { app: first.app_id, spec: spec("b"), expected: ExpectedVersion::Absent };
    store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    for note in 0..CHANGES_KEPT + 20 {
        store.hold_config(first.id, hold(note), &Actor::system(), NOW).await.unwrap();
    }
    let conn = Connection::open(dir.path().join("tsp.db")).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM config_change"), CHANGES_KEPT + 1, "the other config has its one");
    assert_eq!(count("SELECT max(seq) FROM config_change"), store.config_cache().seq());
    drop(store);
    assert_eq!(open(dir.path()).config_cache().seq(), CHANGES_KEPT + 22);
}

/// Left by a fault, or in a copy of which a part is older.
#[tokio::test]
async fn a_task_without_a_config_is_counted_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let tasks = (1..=5).map(|id| submit(new_task(id, config, None))).collect();
    store.submit(tasks, NOW).await.unwrap();
    let raw = rusqlite::Connection::open(dir.path().join("tsp.db")).unwrap();
    for (id, status, phase) in [(2, 10, 1), (3, 30, 1), (4, 40, 2), (5, 45, 3)] {
        raw.execute("UPDATE task SET status = ?, phase = ? WHERE id = ?", [status, phase, id]).unwrap();
    }
    assert_eq!(store.audit(NOW).await.unwrap().orphans, []);
    raw.execute("DELETE FROM config", []).unwrap();
    assert_eq!(store.audit(NOW).await.unwrap().orphans, [(config, 5)]);
    for id in 1..=4 {
        raw.execute("DELETE FROM task WHERE id = ?", [id]).unwrap();
        assert_eq!(store.audit(NOW).await.unwrap().orphans, [(config, 5 - id)], "{id}");
    }
}

#[tokio::test]
async fn damage_is_found_before_the_store_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "plain").await;
    for thousand in 0..5 {
        let ids = thousand * 1_000 + 1..=thousand * 1_000 + 1_000;
        let tasks = ids.map(|id| submit(new_task(id, config.id, Some(&format!("key-{id}"))))).collect();
        store.submit(tasks, NOW).await.unwrap();
    }
    store.close().await;
    drop(store);
    let checked =
        |within| SqliteStore::open(&SqliteOptions { check_within: Some(within), ..options(dir.path()) }, NOW);
    checked(Duration::from_mins(1)).unwrap().close().await;
    let conn = Connection::open(dir.path().join("tsp.db")).unwrap();
    assert!(look_for_damage(&conn, Duration::from_mins(1)).unwrap());
    assert!(!look_for_damage(&conn, Duration::ZERO).unwrap(), "there is no time for so much");
    drop(conn);

    let file = dir.path().join("tsp.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let page = bytes.len() / 2 / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let refused = checked(Duration::from_mins(1)).unwrap_err().to_string();
    assert!(refused.contains("damaged") && refused.contains("restore a backup"), "{refused}");
}
