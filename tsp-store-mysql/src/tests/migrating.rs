//! Making and opening a store.

use std::sync::Arc;

use sqlx::{Connection as _, Row as _};
use tsp_core::task::{Phase, Status};
use tsp_core::{ManualClock, Millis, Timestamp};
use tsp_store::catalog::Catalog as _;

use crate::schema::day_partitions::first_partitions;
use crate::schema::day_partitions::keep_ahead;
use crate::schema::migrate::SHARD;
use crate::tests::fixture::{NOW, shard};
use crate::tests::site::{connect, options, sql};
use crate::{MigrateReport, MySqlOptions, MySqlStore, SourceOptions};

/// A store that was not made yet, of two shards in two databases of the shared server.
fn fresh() -> (MySqlOptions, [String; 2]) {
    let server = peers::MariaDb::shared();
    let names = [server.create_database("meta"), server.create_database("all")];
    let [meta, source] = [server.url(&names[0]), server.url(&names[1])];
    let options = MySqlOptions { connections: 2, ..options(meta, source, 2, [3; 32]) };
    // As the server is, so that tests do not wait for the disk.
    (MySqlOptions { allow_unsynced: true, ..options }, names)
}

async fn refusal(options: &MySqlOptions) -> [String; 2] {
    let migrate = MySqlStore::migrate(options, NOW).await.expect_err("it must not be migrated");
    let open = MySqlStore::open(options).await.expect_err("it must not be opened");
    [migrate.to_string(), open.to_string()]
}

async fn change(database: &str, text: &str) {
    let mut conn = connect(database).await;
    sql(&mut conn, text).await;
    conn.close().await.unwrap();
}

#[tokio::test]
async fn two_may_migrate_at_once_and_again() {
    let (options, _) = fresh();
    let unmade = MySqlStore::open(&options).await.unwrap_err().to_string();
    assert!(unmade.contains("tsp migrate"), "{unmade}");
    let (one, two) = tokio::join!(MySqlStore::migrate(&options, NOW), MySqlStore::migrate(&options, NOW));
    let mut reports = [one.unwrap(), two.unwrap()];
    reports.sort_by_key(|report| report.applied.len());
    assert_eq!(reports[0], MigrateReport::default());
    assert_eq!(
        reports[1].applied,
        [
            "meta meta 1 init",
            "main source 1 init",
            "main shard_000 1 init",
            "main shard_000 2 config_state",
            "main shard_000 3 phase",
            "main shard_001 1 init",
            "main shard_001 2 config_state",
            "main shard_001 3 phase"
        ]
    );
    assert_eq!(reports[1].assigned, [0, 1]);
    assert_eq!(MySqlStore::migrate(&options, NOW).await.unwrap(), MigrateReport::default());
    let store = MySqlStore::open(&options).await.unwrap();
    assert_eq!(store.shards(), 2);
    store.close().await;
}

async fn days(database: &str) -> String {
    let text = "SELECT GROUP_CONCAT(PARTITION_NAME ORDER BY PARTITION_ORDINAL_POSITION SEPARATOR ' ') \
                FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'history_001'";
    sql(&mut connect(database).await, text).await[0].get(0)
}

/// Whatever the database's clock says; also at the ends of years and months, and when 31 bits of seconds are over.
#[tokio::test]
async fn days_are_those_of_the_services_clock() {
    for (now, made, ahead) in [
        // 2026-12-31T23:58, 2027-02-28T12:00, 2028-02-29T23:59:59.999, 2038-01-19T03:14:08, 2100-02-28T23:58.
        (1_798_761_480_000, "p20261230 p20261231 p20270101 p20270102 p20270103", "p20270104"),
        (1_803_816_000_000, "p20270227 p20270228 p20270301 p20270302 p20270303", "p20270304"),
        (1_835_481_599_999, "p20280228 p20280229 p20280301 p20280302 p20280303", "p20280304"),
        (2_147_483_648_000, "p20380118 p20380119 p20380120 p20380121 p20380122", "p20380123"),
        (4_107_542_280_000, "p21000227 p21000228 p21000301 p21000302 p21000303", "p21000304"),
    ] {
        let now = Timestamp::from_ms(now);
        let (options, [_, source]) = fresh();
        MySqlStore::migrate(&options, now).await.unwrap();
        assert_eq!(days(&source).await, format!("{made} pmax"), "{now}");
        let store = MySqlStore::open(&options).await.unwrap();
        keep_ahead(&store.context.shard(shard(1)).unwrap(), now.plus(Millis::from_days(1))).await.unwrap();
        assert_eq!(days(&source).await, format!("{made} {ahead} pmax"), "a day after {now}");
        store.close().await;
    }
}

/// One database may hold all.
#[tokio::test]
async fn meta_and_shards_may_share_a_database() {
    let (options, _) = fresh();
    let options = MySqlOptions { meta: options.sources[0].url.clone(), ..options };
    MySqlStore::migrate(&options, NOW).await.unwrap();
    MySqlStore::open(&options).await.unwrap();
}

#[tokio::test]
async fn what_was_fixed_is_not_changed() {
    let (options, _) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let mut more = MySqlOptions { shards: 3, ..options.clone() };
    more.sources[0].shards = 0..=2;
    for refused in refusal(&more).await {
        assert!(refused.contains("made with 2 shards") && refused.contains("store.shards = 2"), "{refused}");
    }
    for refused in refusal(&MySqlOptions { secret_key: [4; 32], ..options.clone() }).await {
        assert!(refused.contains("secret key"), "{refused}");
    }
    let mut renamed = options.clone();
    renamed.sources[0].name = "other".to_owned();
    for refused in refusal(&renamed).await {
        assert!(refused.contains("data source `main`"), "{refused}");
    }
    MySqlStore::open(&options).await.unwrap();
}

#[tokio::test]
async fn each_shard_must_have_one_place() {
    let (options, _) = fresh();
    let mut gap = options.clone();
    gap.sources[0].shards = 1..=1;
    let refused = MySqlStore::migrate(&gap, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("shard 0 has no data source"), "{refused}");
    let mut twice = options.clone();
    twice.sources.push(SourceOptions { name: "second".to_owned(), ..options.sources[0].clone() });
    assert!(MySqlStore::migrate(&twice, NOW).await.is_err());
    MySqlStore::migrate(&options, NOW).await.unwrap();
    MySqlStore::migrate(&twice, NOW).await.expect("what is placed stays, whatever the options say now");
}

#[tokio::test]
async fn a_newer_schema_and_one_of_another_build_are_refused() {
    let (options, [meta, source]) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let newer = "INSERT INTO schema_version VALUES ('shard_001', 4, 'later', 'x', 4, 0)";
    change(&source, newer).await;
    for refused in refusal(&options).await {
        assert!(refused.contains("schema 4 of `shard_001`") && refused.contains("up to 3"), "{refused}");
    }
    change(&source, "DELETE FROM schema_version WHERE number = 4").await;
    change(&meta, "UPDATE schema_version SET checksum = 'x'").await;
    for refused in refusal(&options).await {
        assert!(refused.contains("another build"), "{refused}");
    }
}

/// What makes a rolling upgrade: the release before goes on beside the new one.
#[tokio::test]
async fn a_newer_schema_that_is_only_more_is_used() {
    let (options, [meta, source]) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let store = MySqlStore::open(&options).await.unwrap();
    for (database, part, known) in [(&meta, "meta", 1), (&source, "source", 1), (&source, "shard_001", 3)] {
        let newer = |number| {
            format!("INSERT INTO schema_version VALUES ('{part}', {number}, 'later', 'x', {}, 0)", number - 1)
        };
        change(database, &newer(known + 1)).await;
        assert_eq!(MySqlStore::migrate(&options, NOW).await.unwrap(), MigrateReport::default());
        MySqlStore::open(&options).await.unwrap().close().await;
        // Two releases ahead is too far: the second counts on the first.
        change(database, &newer(known + 2)).await;
        for refused in refusal(&options).await {
            assert!(
                refused.contains(&format!("schema {}", known + 2)) && refused.contains("newer binary"),
                "{refused}"
            );
        }
        let last = format!("DELETE FROM schema_version WHERE part = '{part}' AND number = {}", known + 2);
        change(database, &last).await;
    }
    store.follow().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_missing_migration_is_said_at_open() {
    let (options, [_, source]) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    change(&source, "DELETE FROM schema_version WHERE part = 'shard_000'").await;
    let refused = MySqlStore::open(&options).await.unwrap_err().to_string();
    assert!(refused.contains("tsp migrate"), "{refused}");
    let report =
        MySqlStore::migrate(&options, NOW).await.expect("tables that are there already do not hinder");
    assert_eq!(
        report.applied,
        ["main shard_000 1 init", "main shard_000 2 config_state", "main shard_000 3 phase"]
    );
    MySqlStore::open(&options).await.unwrap();
}

/// The indexes of a table, with their columns.
async fn indexes(database: &str, table: &str) -> Vec<String> {
    let text = format!(
        "SELECT CONCAT(INDEX_NAME, ' ', GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX)) \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}' \
         GROUP BY INDEX_NAME ORDER BY INDEX_NAME = 'PRIMARY' DESC, INDEX_NAME"
    );
    sql(&mut connect(database).await, &text).await.iter().map(|row| row.get(0)).collect()
}

/// The tables of shard 0 as the step before made them, with a row in every state.
async fn before_phases(source: &str) {
    let tables = SHARD[0].text.replace("{shard}", "000").replace("{days}", &first_partitions(NOW));
    change(source, &format!("DROP TABLE task_000, history_000; {tables}")).await;
    change(source, "DELETE FROM schema_version WHERE part = 'shard_000' AND number > 2").await;
    for status in Status::ALL {
        let row = format!(
            "INSERT INTO task_000 (id, config_id, status, due_at, execute_at, first_due_at, created_at, origin, \
             key_slot) VALUES ({code}, 1, {code}, 5, 5, 5, 5, 0, 0)",
            code = status.code()
        );
        change(source, &row).await;
    }
}

#[tokio::test]
async fn rows_in_every_state_get_their_phase() {
    let (options, [_, source]) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    before_phases(&source).await;
    let old = indexes(&source, "task_000").await;
    assert!(old.contains(&"state status,due_at".to_owned()), "{old:?}");
    let applied = MySqlStore::migrate(&options, NOW).await.unwrap().applied;
    assert_eq!(applied, ["main shard_000 3 phase"]);
    let mut conn = connect(&source).await;
    let rows = sql(&mut conn, "SELECT CAST(status AS SIGNED), CAST(phase AS SIGNED) FROM task_000").await;
    assert_eq!(rows.len(), Status::ALL.len());
    for row in rows {
        let status = Status::from_code(row.get(0)).unwrap();
        // What has ended is not there; the server has to say something.
        let phase = status.phase().unwrap_or(Phase::Busy);
        assert_eq!(row.get::<i64, _>(1), i64::from(phase.code()), "{status:?}");
    }
    // As a new shard's.
    let tasks = [
        "PRIMARY id",
        "claim config_id,phase,due_at,id",
        "state phase",
        "task_key config_id,key_hash,key_slot",
    ];
    for table in ["task_000", "task_001"] {
        assert_eq!(indexes(&source, table).await, tasks);
    }
    for table in ["history_000", "history_001"] {
        let indexes = indexes(&source, table).await;
        assert!(indexes.len() == 3 && !indexes.iter().any(|index| index.contains("parent")), "{indexes:?}");
    }
    // Interrupted between its two statements, and before it was written down.
    change(&source, "ALTER TABLE history_000 ADD KEY parent (parent_id)").await;
    change(&source, "DELETE FROM schema_version WHERE part = 'shard_000' AND number = 3").await;
    assert_eq!(MySqlStore::migrate(&options, NOW).await.unwrap().applied, ["main shard_000 3 phase"]);
    assert_eq!(indexes(&source, "history_000").await, indexes(&source, "history_001").await);
    MySqlStore::open(&options).await.unwrap().close().await;
}

/// What the release before does goes on beside this one while processes are replaced: its statements name indexes.
#[tokio::test]
async fn the_release_before_may_go_on_with_phases() {
    let (options, [_, source]) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    before_phases(&source).await;
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let mut conn = connect(&source).await;
    for (text, found) in [
        (
            "SELECT id FROM task_000 FORCE INDEX (claim) WHERE config_id = 1 AND status = 0 AND due_at <= 5 \
          ORDER BY due_at, id LIMIT 10 FOR UPDATE",
            0,
        ),
        ("SELECT MIN(id) FROM task_000 FORCE INDEX (claim) WHERE status = 45 GROUP BY config_id", 45),
        (
            "SELECT id FROM task_000 FORCE INDEX (state) WHERE status = 10 AND due_at >= 0 AND (due_at > 0 OR id > 0) \
          ORDER BY due_at, id LIMIT 10",
            10,
        ),
        ("SELECT id FROM task_000 FORCE INDEX (state) WHERE status = 30", 30),
    ] {
        let ids: Vec<i64> = sql(&mut conn, text).await.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, [found], "{text}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_sync_commits_is_refused_unless_it_is_allowed() {
    let (allowed, [meta, _]) = fresh();
    let strict = MySqlOptions { allow_unsynced: false, ..allowed.clone() };
    let refused = MySqlStore::migrate(&strict, NOW).await.unwrap_err().to_string();
    assert!(
        refused.contains("`meta`") && refused.contains("innodb_flush_log_at_trx_commit is 2"),
        "{refused}"
    );
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()";
    let tables: i64 = sql(&mut connect(&meta).await, tables).await[0].get(0);
    assert_eq!(tables, 0, "nothing was made");
    MySqlStore::migrate(&allowed, NOW).await.unwrap();
    let view = MySqlStore::inspect(&strict).await;
    for database in &view.databases {
        let facts = database.found.as_ref().unwrap();
        assert!(facts.wrong.iter().any(|wrong| wrong.text.contains("power loss")), "{facts:?}");
    }
    let view = MySqlStore::inspect(&allowed).await;
    for database in &view.databases {
        let facts = database.found.as_ref().unwrap();
        assert!(facts.wrong.is_empty() && facts.notes[0].contains("power loss"), "{facts:?}");
    }
}

#[tokio::test]
async fn clocks_of_servers_are_compared_with_the_one_that_was_handed_in() {
    let (options, _) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let database_now = MySqlStore::time(&options).await.unwrap();
    let an_hour_behind = ManualClock::at(database_now.minus(Millis::from_hours(1)));
    let view = MySqlStore::inspect(&MySqlOptions { clock: Arc::new(an_hour_behind), ..options }).await;
    for database in &view.databases {
        let facts = database.found.as_ref().unwrap();
        assert!(facts.ahead >= Millis::from_hours(1), "{facts:?}");
    }
}

/// What a session of a store is like.
#[tokio::test]
async fn sessions_are_settled() {
    use crate::connection::session::query;

    let (options, _) = fresh();
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let store = MySqlStore::open(&options).await.unwrap();
    let text = "-- settings\nSELECT @@tx_isolation, CAST(@@innodb_lock_wait_timeout AS SIGNED), \
                CAST(@@max_statement_time * 1000 AS SIGNED), CAST(@@idle_transaction_timeout AS SIGNED), @@time_zone";
    let mut session = store.context.meta.conn().await.unwrap();
    let row = query(&store.context.meta.sql(text)).fetch_one(&mut session).await.unwrap();
    let number = |at: usize| row.get::<i64>(at).unwrap();
    assert_eq!(row.get::<String>(0).unwrap(), "READ-COMMITTED");
    assert_eq!([number(1), number(2), number(3)], [5, 10_000, 2]);
    assert_eq!(row.get::<String>(4).unwrap(), "+00:00");
}
