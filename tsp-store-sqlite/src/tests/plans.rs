//! Golden query plans on a large table: every hot query finds its rows by an index and in its order.

use rusqlite::Connection;

use super::*;
use crate::attempts::batch;
use crate::catalog::configs::CHANGE_OLD;
use crate::connection::session::Session;
use crate::fetching::auditor::{AWAITING, BUSY, OPEN_BY_STATUS, OVERDUE, OVERDUE_MANY, PAUSED_NEXT};
use crate::fetching::claim::{CLAIM_SELECT, EARLIEST_DUE_NEXT, EARLIEST_DUE_OF, IN_FLIGHT};
use crate::fetching::fire::OPEN_OCCURRENCE;
use crate::fetching::rescue::{NEXT_DEADLINE, WAITS_OVER};
use crate::retention;
use crate::retention::{HISTORY_NEXT, HISTORY_OLD};
use crate::schema::migrate;
use crate::search;
use crate::tasks::cancel;
use crate::tasks::change;
use crate::tasks::rows;
use crate::tasks::submit;

const ROWS: i64 = 100_000;

/// Rows of all kinds, in a file as the planner would see it in production.
const FILL: &str = "
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO task (id, config_id, status, version, due_at, execute_at, first_due_at, created_at, attempt,
    charged, losses, epoch, cancel_requested, origin, sharding_id, sharding_count, key, key_slot, phase)
SELECT i, i % 100, CASE WHEN i % 50 = 0 THEN 10 WHEN i % 50 = 1 THEN 30 WHEN i % 50 = 2 THEN 40
    WHEN i % 50 = 3 THEN 45 ELSE 0 END, 1, i * 7919 % 1000003, 0, 0, 0, 0, 0, 0, 0, 0, i % 3, 0, 1,
    'key-' || i, 0, CASE WHEN i % 50 < 2 THEN 1 WHEN i % 50 < 4 THEN i % 50 ELSE 0 END FROM n";

const FILL_HISTORY: &str = "
INSERT INTO history (id, config_id, result, ended_at, version, due_at, execute_at, first_due_at, created_at,
    attempt, charged, losses, epoch, origin, sharding_id, sharding_count, key, key_slot)
SELECT id + ?1, config_id, 1, due_at, 5, due_at, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, key, 0 FROM task";

fn plan(conn: &Connection, sql: &str) -> String {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters: Vec<i64> = vec![1; statement.parameter_count()];
    let rows =
        statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

#[test]
fn hot_queries_use_their_index_and_never_sort() {
    let conn = Connection::open_in_memory().unwrap();
    migrate::migrate(Session::new(&conn), NOW).unwrap();
    conn.execute(FILL, [ROWS]).unwrap();
    conn.execute(FILL_HISTORY, [ROWS]).unwrap();
    for analyzed in [false, true] {
        if analyzed {
            conn.execute_batch("ANALYZE").unwrap();
        }
        let expected = [
            (CLAIM_SELECT, "SEARCH task USING INDEX task_claim (config_id=? AND due_at<?)"),
            (EARLIEST_DUE_OF, "SEARCH task USING COVERING INDEX task_claim (config_id=?)"),
            (EARLIEST_DUE_NEXT, "SEARCH task USING COVERING INDEX task_claim (config_id>?)"),
            (OVERDUE, "SEARCH task USING COVERING INDEX task_claim (config_id=? AND due_at<?)"),
            (OVERDUE_MANY, "SEARCH task USING COVERING INDEX task_claim (config_id=? AND due_at<?)"),
            (PAUSED_NEXT, "SEARCH task USING COVERING INDEX task_paused (config_id>?)"),
            (BUSY, "SEARCH task USING INDEX task_busy (phase=?)"),
            (AWAITING, "SCAN task USING INDEX task_awaiting"),
            (OPEN_OCCURRENCE, "SEARCH task USING INDEX task_occurrence (config_id=?)"),
            (
                CHANGE_OLD,
                "SEARCH config_change USING COVERING INDEX config_change_config (config_id=? AND rowid<?)",
            ),
            (HISTORY_NEXT, "SEARCH history USING COVERING INDEX history_ended (config_id>?)"),
            (HISTORY_OLD, "SEARCH history USING COVERING INDEX history_ended (config_id=? AND ended_at<?)"),
            (NEXT_DEADLINE, "SCAN task USING COVERING INDEX task_awaiting"),
            (WAITS_OVER, "SEARCH task USING INDEX task_awaiting (due_at<?)"),
            (IN_FLIGHT, "SEARCH task USING INDEX task_busy (phase=? AND rowid>?)"),
            (submit::CANONICAL, "SEARCH task USING INDEX task_key (config_id=? AND key=? AND key_slot=?)"),
            (change::LATEST_OF_KEY, "SEARCH history USING INDEX history_key (config_id=? AND key=?)"),
            (rows::TASK_OPEN, "SEARCH task USING INTEGER PRIMARY KEY (rowid=?)"),
        ];
        for (sql, golden) in expected {
            let plan = plan(&conn, sql);
            assert!(plan.starts_with(golden), "analyzed {analyzed}: {sql}\n  is    {plan}\n  wants {golden}");
        }
        let others = OPEN_BY_STATUS.iter().map(|(_, sql)| *sql).chain([batch::EXECUTING, rows::TASK_ENDED]);
        let others = others.chain(expected.iter().map(|(sql, _)| *sql));
        let writes = [rows::TASK_CLAIM, rows::TASK_BEGIN, rows::TASK_UPDATE, rows::TASK_DELETE];
        for sql in others
            .chain(cancel::BY_INDEX)
            .chain(search::statements())
            .chain(retention::STATEMENTS)
            .chain(writes)
        {
            let plan = plan(&conn, sql);
            assert!(!plan.contains("TEMP B-TREE"), "{sql}\n  {plan}");
            // A small partial index may be scanned whole; a table never.
            let table_walked =
                plan.split("; ").any(|step| step.starts_with("SCAN") && !step.contains("INDEX"));
            assert!(!table_walked, "{sql}\n  {plan}");
            let big_walked = ["task_claim", "task_key", "history_ended", "history_key"]
                .iter()
                .any(|index| plan.starts_with("SCAN") && plan.contains(index) && !sql.contains("audit_"));
            assert!(!big_walked, "{sql}\n  {plan}");
        }
    }
}

fn opcodes(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN {sql}")).unwrap();
    let parameters: Vec<i64> = vec![1; statement.parameter_count()];
    let rows =
        statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(1)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_begin_touches_no_index() {
    let conn = Connection::open_in_memory().unwrap();
    migrate::migrate(Session::new(&conn), NOW).unwrap();
    let touches =
        |sql| opcodes(&conn, sql).iter().any(|opcode| opcode == "IdxInsert" || opcode == "IdxDelete");
    assert!(touches(rows::TASK_CLAIM), "a claim moves the row to another index");
    assert!(!touches(rows::TASK_BEGIN));
}
