//! Golden query plans on large tables: every hot query finds its rows by an index and in its order.
//!
//! `TSP_PLAN_ROWS` sets how large (`make bench-plans` asks for ten million rows of each kind).

use peers::MariaDb;
use sqlx::Row as _;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::attempts::batch::{EXECUTING, TASKS_LOAD, TASKS_RELEASE};
use crate::attempts::begin::{TASKS_BEGIN, TASKS_BEGUN};
use crate::attempts::finish::TASKS_TAKE;
use crate::connection::pool::initialise;
use crate::connection::statement_templates::{StatementTemplates, StatementText};
use crate::fetching::auditor::{AUDIT_BUSY, AUDIT_COUNTS, CONFIGS_OPEN, OPEN_OF, OVERDUE, PAGE, REST};
use crate::fetching::claim::{
    CLAIM_MARK, CLAIM_SELECT, EARLIEST_DUE, EARLIEST_DUE_OF, EARLIEST_DUE_OF_ALL, IN_FLIGHT,
};
use crate::fetching::fire::{CURSOR_LOCK, CURSOR_MOVE, OCCURRENCE_FIND, OPEN_OCCURRENCE};
use crate::fetching::rescue::{DEADLINES, WAITS_OVER};
use crate::retention::old_rows::{
    HISTORY_DROP, HISTORY_FIRSTS, HISTORY_OLD, IDEMPOTENCY_OLD, OCCURRENCE_FIRSTS, OCCURRENCE_OLD,
};
use crate::retention::whole_days::{ATTEMPTS_OLD, TASKS_THERE};
use crate::search::page;
use crate::tasks::change::LATEST_OF_KEY;
use crate::tasks::rows::{ATTEMPTS_DROP, TASK_DELETE, TASK_OPEN, TASKS_DELETE, TASKS_LOCK};
use crate::tasks::update::TASK_UPDATE;
use crate::tests::fixture::{NOW, shard};
use crate::tests::site::{Databases, connect, sql};

const ROWS: i64 = 100_000;

/// What ten million rows of each kind and their indexes need to be filled in minutes.
const LARGE: &str =
    "SET GLOBAL innodb_buffer_pool_size = 6442450944, GLOBAL innodb_log_file_size = 2147483648";

fn rows() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the size of a run is chosen where it is started")]
    let rows = std::env::var("TSP_PLAN_ROWS");
    rows.map_or(ROWS, |text| text.parse().unwrap_or_else(|e| panic!("`TSP_PLAN_ROWS` is a number: {e}")))
}

/// A day's partition holds this many rows of history.
const DAY_MS: i64 = 86_400_000;

/// Rows of all kinds of a hundred configs, as the planner would see them in production.
const FILL: [&str; 5] = [
    "INSERT INTO task_000 (id, config_id, status, version, due_at, execute_at, first_due_at, created_at,
        attempt, charged, losses, epoch, node, cancel_requested, origin, sharding_id, sharding_count,
        task_key, key_hash, key_slot)
    SELECT seq, seq % 100, ELT(1 + LEAST(seq % 50, 4), 10, 30, 40, 45, 0), 1, seq * 7919 % 1000003, 0, 0, 0,
        0, 0, 0, 0, IF(seq % 50 = 1, seq % 7, NULL), 0, seq % 3, 0, 1, CONCAT('key-', seq),
        UNHEX(MD5(CONCAT('key-', seq))), 0
    FROM seq_1_to_{rows}",
    "INSERT INTO history_000 (id, config_id, result, ended_at, version, due_at, execute_at, first_due_at,
        created_at, attempt, charged, losses, epoch, origin, sharding_id, sharding_count, task_key, key_hash,
        key_slot)
    SELECT id + {rows}, config_id, 1, {now} - {day} + id % 3 * {day} + id % 997, 5, due_at, 0, 0, 0, 1, 0, 0,
        0, 0, 0, 1, task_key, key_hash, 0
    FROM task_000",
    "INSERT INTO attempt_000 (task_id, attempt, started_at, ended_at, due_at, kind, reason)
    SELECT id, 1, ended_at - 5, ended_at, due_at, 1, '' FROM history_000",
    "INSERT INTO occurrence_000 (config_id, execute_at, origin, task_id, late, made_at)
    SELECT id % 100, id, 0, id, 0, 0 FROM task_000",
    "INSERT INTO idempotency_000 (hash, body_hash, expires_at) SELECT UNHEX(MD5(id)), '', id FROM task_000",
];

/// A statement, how many values each of its list's rows has (0: no list), and its plan.
type Golden = (&'static str, usize, &'static str);

/// A seek for each config that has rows, and two to find it.
const FIRSTS: &str =
    "<derived3> ALL -: | task_000 range claim: Using index for group-by | t ref claim: Using index";

/// `table type key`, then what `Extra` says besides `Using where`.
const GOLDEN: [Golden; 40] = [
    (CLAIM_SELECT, 0, "task_000 range claim: Using index condition"),
    (CLAIM_MARK, 1, "task_000 range PRIMARY:"),
    (EARLIEST_DUE_OF, 0, "task_000 ref claim: Using index"),
    (EARLIEST_DUE_OF_ALL, 0, "c ALL -: Table function: json_table | t ref claim: Using index"),
    (EARLIEST_DUE, 0, FIRSTS),
    (DEADLINES, 0, FIRSTS),
    (IN_FLIGHT, 0, "task_000 range state: Using index condition"),
    (WAITS_OVER, 0, "task_000 range claim: Using index condition"),
    (TASKS_BEGIN, 2, "task_000 range PRIMARY:"),
    (TASKS_BEGUN, 1, "task_000 range PRIMARY:"),
    (TASKS_TAKE, 2, "task_000 range PRIMARY:"),
    (TASKS_LOCK, 1, "task_000 range PRIMARY:"),
    (TASKS_LOAD, 1, "task_000 range PRIMARY:"),
    (TASKS_RELEASE, 1, "task_000 range PRIMARY:"),
    (TASKS_DELETE, 1, "task_000 range PRIMARY:"),
    (TASK_OPEN, 0, "task_000 const PRIMARY:"),
    (TASK_UPDATE, 0, "task_000 range PRIMARY:"),
    (TASK_DELETE, 0, "task_000 range PRIMARY:"),
    (EXECUTING, 0, "task_000 ref state:"),
    (CURSOR_LOCK, 0, "v ALL -: Table function: json_table | cursor_000 eq_ref PRIMARY:"),
    (CURSOR_MOVE, 0, "v ALL -: Table function: json_table | c eq_ref PRIMARY:"),
    (OPEN_OCCURRENCE, 0, "v ALL -: Table function: json_table | task_000 ref claim:"),
    (OCCURRENCE_FIND, 0, "v ALL -: Table function: json_table | o eq_ref PRIMARY: Using index"),
    (OVERDUE, 0, "<derived2> ALL -: | task_000 range claim: Using index"),
    (PAGE, 0, "task_000 range state: Using index"),
    (REST, 0, "task_000 range state: Using index"),
    (AUDIT_BUSY, 0, "task_000 ref state:"),
    (CONFIGS_OPEN, 0, "task_000 range claim: Using index for group-by"),
    (OPEN_OF, 0, "<derived2> ALL -: | task_000 ref claim: Using index"),
    (AUDIT_COUNTS, 0, "balance_000 ALL -: | task_000 range state: Using index | task_000 ref state:"),
    (LATEST_OF_KEY, 0, "history_000 ref by_key:"),
    (HISTORY_FIRSTS, 0, "history_000 range ended: Using index for group-by"),
    (HISTORY_OLD, 0, "history_000 range ended: Using index"),
    (HISTORY_DROP, 2, "history_000 range PRIMARY:"),
    (ATTEMPTS_DROP, 1, "attempt_000 range PRIMARY:"),
    (ATTEMPTS_OLD, 0, "attempt_000 range PRIMARY: Using index"),
    (TASKS_THERE, 1, "task_000 range PRIMARY: Using index | history_000 range PRIMARY: Using index"),
    (OCCURRENCE_FIRSTS, 0, "occurrence_000 range PRIMARY: Using index for group-by"),
    (OCCURRENCE_OLD, 0, "occurrence_000 range PRIMARY:"),
    (IDEMPOTENCY_OLD, 0, "idempotency_000 range idempotency_expiry:"),
];

async fn filled(database: &str) -> MySqlConnection {
    let (mut conn, rows) = (connect(database).await, rows());
    if rows > ROWS {
        MariaDb::shared().sql(LARGE).expect("a server of this test's own");
        // An empty table is filled index by index, each of them sorted first.
        sql(&mut conn, "SET unique_checks = 0, foreign_key_checks = 0").await;
    }
    for text in FILL {
        let text = text.replace("{rows}", &rows.to_string()).replace("{day}", &DAY_MS.to_string());
        sql(&mut conn, &text.replace("{now}", &NOW.ms().to_string())).await;
    }
    let tables = "task_000, history_000, attempt_000, occurrence_000, idempotency_000";
    sql(&mut conn, &format!("ANALYZE TABLE {tables}")).await;
    // As the store has it.
    initialise(&mut conn).await.expect("the session is set");
    conn
}

/// With numbers for its values: times are of now, so that days can be told apart.
async fn explain(conn: &mut MySqlConnection, text: &str, value: impl Fn(i64) -> i64) -> Vec<MySqlRow> {
    let mut filled = String::from("EXPLAIN PARTITIONS ");
    let text = text.split_once('\n').map_or(text, |(_, text)| text);
    // Values that are no numbers, and the end of a lease that is not over.
    let text = text.replace("key_hash = ?", "key_hash = UNHEX(MD5('key-97'))");
    let text =
        text.replace("task_key = ?", "task_key = 'key-97'").replace("JSON_TABLE(?", "JSON_TABLE('[97]'");
    let text = text.replace("JSON_TABLE(?", "JSON_TABLE('[[97, 97], [194, 194]]'");
    let text = text.replace("SIGNED) <= ?", "SIGNED) <= 9223372036854775807");
    for (at, part) in text.split('?').enumerate() {
        if at > 0 {
            filled.push_str(&value(i64::try_from(at).expect("few")).to_string());
        }
        filled.push_str(part);
    }
    sql(conn, &filled).await
}

/// With a list, or lists, of `n`.
fn listed(sql: &StatementText, n: usize) -> String {
    let text = sql.to_string().replace("{list}", &vec!["?"; n].join(", "));
    text.replace("{pairs}", &vec!["(?, ?)"; n].join(", "))
}

fn show(rows: &[MySqlRow]) -> String {
    let text =
        |row: &MySqlRow, column: &str| row.get::<Option<String>, _>(column).unwrap_or_else(|| "-".into());
    let step = |row: &MySqlRow| {
        let extra = text(row, "Extra");
        let said: Vec<&str> = extra.split("; ").filter(|said| !matches!(*said, "" | "Using where")).collect();
        let [table, kind, key] = ["table", "type", "key"].map(|column| text(row, column));
        format!("{table} {kind} {key}: {}", said.join("; ")).trim_end().to_owned()
    };
    let steps = rows.iter().filter(|row| text(row, "select_type") != "UNION RESULT");
    steps.map(step).collect::<Vec<_>>().join(" | ")
}

/// One fill for all: it takes longer than they do.
#[tokio::test]
async fn hot_queries_use_their_index_and_never_sort() {
    let databases = Databases::take().await.for_good();
    let mut conn = filled(databases.source_of(0)).await;
    let templates = StatementTemplates::new(Some(shard(0)));
    hot_queries_are_as_ever(&mut conn, &templates).await;
    pages_are_read_in_the_order_of_an_index(&mut conn, &templates).await;
    the_history_of_a_day_is_read_from_its_partition(&mut conn, &templates).await;
    a_begin_changes_no_index_entry(&mut conn).await;
    println!(
        "{} hot queries and all pages keep their plans beside {} rows of each kind",
        GOLDEN.len(),
        rows()
    );
}

async fn hot_queries_are_as_ever(conn: &mut MySqlConnection, templates: &StatementTemplates) {
    let mut wrong = Vec::new();
    for (template, width, golden) in GOLDEN {
        // A list of pairs is never of one.
        for n in [vec![0], vec![1, 10, 500], vec![2, 10, 500]][width].clone() {
            let text = listed(&templates.sql(template), n);
            // Ids that are there, far apart; and for a table without rows nothing can be said.
            let rows = explain(conn, &text, |at| at * 97).await;
            let plan = show(&rows);
            // One row by its key may be called what it is.
            let alike = n == 1 && plan.replace("const", "range").replace("ref", "range") == golden;
            if plan != golden && !alike {
                let name = text.lines().next().unwrap_or_default();
                wrong.push(format!("{name} of {n}\n  is    {plan}\n  wants {golden}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nor does it move what the phase is of: queued and executing are one.
async fn a_begin_changes_no_index_entry(conn: &mut MySqlConnection) {
    let (_, set) = TASKS_BEGIN.split_once(" SET ").expect("it is an update");
    let set = set.split_once("WHERE").map_or(set, |(set, _)| set);
    let changed = set.split(',').filter_map(|part| part.split_once('=')).map(|(column, _)| column.trim());
    let text = "SELECT COLUMN_NAME FROM information_schema.STATISTICS \
                WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'task_000'";
    let indexed: Vec<String> = sql(conn, text).await.iter().map(|row| row.get(0)).collect();
    assert!(indexed.iter().any(|column| column == "phase"), "{indexed:?}");
    for column in changed {
        assert!(
            !indexed.iter().any(|other| other == column),
            "a begin changes `{column}`, and an index has it"
        );
    }
}

/// Lists and searches, each of one page of what is much.
async fn pages_are_read_in_the_order_of_an_index(conn: &mut MySqlConnection, templates: &StatementTemplates) {
    let mut wrong = Vec::new();
    for template in page::statements() {
        for n in if template.contains("{list}") { vec![1, 10] } else { vec![0] } {
            let text = listed(&templates.sql(template), n);
            let plan = show(&explain(conn, &text, |at| at * 7).await);
            let reads_all = |step: &str| step.contains(" ALL ") && !step.starts_with("<derived");
            if plan.contains("filesort") || plan.contains("temporary") || plan.split(" | ").any(reads_all) {
                wrong.push(format!("{} of {n}\n  is {plan}", text.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is asked of the history by time reads only the days it is about.
async fn the_history_of_a_day_is_read_from_its_partition(
    conn: &mut MySqlConnection,
    templates: &StatementTemplates,
) {
    let yesterday = NOW.ms() - DAY_MS;
    let partitions = |rows: &[MySqlRow]| rows[0].get::<String, _>("partitions");
    let text = templates.sql(HISTORY_OLD).to_string();
    let rows = explain(conn, &text, |at| if at == 2 { yesterday } else { at }).await;
    assert_eq!(partitions(&rows), "p20261120");
    let text = listed(&templates.sql(HISTORY_DROP), 10);
    let rows = explain(conn, &text, |at| if at % 2 == 0 { NOW.ms() } else { at }).await;
    assert_eq!(partitions(&rows), "p20261121");
    let text = templates.sql(ATTEMPTS_OLD).to_string();
    let rows = explain(conn, &text, |at| if at == 2 { yesterday } else { at }).await;
    assert_eq!(partitions(&rows), "p20261120");
}
