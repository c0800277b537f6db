//! Query plans on a large table: every statement finds its rows by an index and in its order.

use rusqlite::Connection;

use super::*;
use crate::connection::session::Session;
use crate::schema::migrate;
use crate::{
    attempts, catalog, connection, export, fetching, file, membership, retention, schema, search, tasks,
};

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

/// The statements of each file that has some.
const FILES: [&[(&str, &str)]; 30] = [
    attempts::batch::PLANS,
    catalog::apps::PLANS,
    catalog::audit_log::PLANS,
    catalog::configs::PLANS,
    catalog::keys::PLANS,
    catalog::load::PLANS,
    connection::connect::PLANS,
    connection::tx::PLANS,
    export::PLANS,
    fetching::auditor::PLANS,
    fetching::claim::PLANS,
    fetching::fence::PLANS,
    fetching::fire::PLANS,
    fetching::parks::PLANS,
    fetching::rescue::PLANS,
    file::secret::PLANS,
    membership::id_slots::PLANS,
    membership::leases::PLANS,
    membership::nodes::PLANS,
    retention::PLANS,
    schema::initialise::PLANS,
    schema::migrate::PLANS,
    search::gather::PLANS,
    search::merge::PLANS,
    search::scan::PLANS,
    tasks::cancel::PLANS,
    tasks::change::PLANS,
    tasks::idempotency::PLANS,
    tasks::rows::PLANS,
    tasks::submit::PLANS,
];

/// Tables that grow with the tasks, and with the time they run.
const LARGE: [&str; 7] =
    ["task", "history", "attempt", "occurrence", "idempotency", "audit", "config_change"];

/// Every statement, and the plan that stands beside it.
pub(super) fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.into_iter().flatten().copied()
}

fn plan(conn: &Connection, sql: &str) -> String {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters: Vec<i64> = vec![1; statement.parameter_count()];
    let rows =
        statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

/// What is wrong with the plan of a statement.
fn problem(sql: &str, plan: &str, golden: &str) -> Option<&'static str> {
    let mut steps = plan.split("; ");
    // The table is the second word of a step: `SEARCH task USING …`. One row by its id is what it is.
    let is_large = |step: &str| {
        step.split(' ').nth(1).is_some_and(|table| LARGE.contains(&table))
            && !step.ends_with("USING INTEGER PRIMARY KEY (rowid=?)")
    };
    // A small partial index may be walked whole, and by the auditor any; a table never.
    let small =
        |step: &str| ["task_busy", "task_awaiting", "task_paused"].iter().any(|index| step.contains(index));
    let walks = |step: &str| {
        step.starts_with("SCAN") && is_large(step) && !small(step) && !sql.starts_with("-- audit_")
    };
    if golden.is_empty() && steps.clone().any(is_large) {
        Some("it reads a large table and has no plan beside it")
    } else if !golden.is_empty() && plan != golden {
        Some("it has another plan")
    } else if plan.contains("TEMP B-TREE") {
        Some("it sorts")
    } else if steps.any(walks) {
        Some("it walks a large table")
    } else {
        None
    }
}

#[test]
fn every_statement_on_a_large_table_keeps_its_plan_and_never_sorts() {
    let conn = Connection::open_in_memory().unwrap();
    migrate::migrate(Session::new(&conn), NOW).unwrap();
    conn.execute(FILL, [ROWS]).unwrap();
    conn.execute(FILL_HISTORY, [ROWS]).unwrap();
    let mut wrong = Vec::new();
    for analyzed in [false, true] {
        if analyzed {
            conn.execute_batch("ANALYZE").unwrap();
        }
        for (sql, golden) in statements() {
            let plan = plan(&conn, sql);
            if let Some(problem) = problem(sql, &plan, golden) {
                let name = sql.lines().next().unwrap_or_default();
                wrong.push(format!(
                    "{name}, analyzed {analyzed}: {problem}\n  is    {plan}\n  wants {golden}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
    assert!(touches(tasks::rows::TASK_CLAIM), "a claim moves the row to another index");
    assert!(!touches(tasks::rows::TASK_BEGIN));
}

#[test]
fn states_in_statements_are_those_of_the_transitions() {
    let written = tsp_store_testing::state_literals::written(statements().map(|(sql, _)| sql));
    assert_eq!(written, ["claim_quarantine", "task_claim", "task_begin"]);
}
