//! A shard that stands still beside others of its data source: its tables are locked, or it moves.

use std::time::Duration;

use serde_json::json;
use tsp_core::{Millis, ShardId, TaskId, Timestamp};

use super::{Stage, check_each_attempt_once};
use crate::harness::cluster::Plan;
use crate::harness::process::run_within;
use crate::harness::{APP, Arrival, Task, id_of, now, only_on, past};

/// Tasks a second, over all shards.
const RATE: i64 = 100;
/// What the machine of a test may add to twice the lateness that was before: half of what a shard stands still.
const SLACK_MS: i64 = 3_000;
/// Rows of history in the shard that moves, unless `TSP_TEST_HISTORY` says how many.
const HISTORY: u64 = 20_000;

fn shard_of(id: &str) -> ShardId {
    id.parse::<TaskId>().unwrap_or_else(|e| panic!("`{id}`: {e}")).shard()
}

/// The lateness in ms that 99 of 100 first attempts of other shards kept, of those due in `[from, to)`.
fn p99_beside(arrivals: &[Arrival], still: ShardId, from: Timestamp, to: Timestamp) -> i64 {
    let due = arrivals.iter().filter(|one| one.attempt() == 1 && (from..to).contains(&one.execute_at()));
    let mut late: Vec<_> =
        due.filter(|one| shard_of(one.task()) != still).map(Arrival::lateness_ms).collect();
    late.sort_unstable();
    assert!(late.len() >= 50, "only {} callbacks of other shards", late.len());
    late[late.len() * 99 / 100]
}

/// Tasks that are due for so many seconds, and beside them something that makes a shard stand still.
async fn beside(stage: &Stage, seconds: i64, still: u16, stand_still: impl Future<Output = ()>) {
    let still = ShardId::new(still).expect("a shard of the cluster");
    let from = now().plus(Millis::from_secs(2));
    let mut ids = Vec::new();
    for second in 0..seconds {
        let at = |number| from.plus(Millis::from_ms(second * 1_000 + number * 1_000 / RATE));
        let tasks: Vec<_> = (0..RATE).map(|number| Task::of("work").at(at(number)).json()).collect();
        let answer = stage.api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await;
        ids.extend(answer.expect(200)["results"].as_array().expect("a batch has results").iter().map(id_of));
    }
    past(from.plus(Millis::from_secs(3))).await;
    let began = now();
    stand_still.await;
    let ended = now();
    let arrivals = stage.all_of(&ids).await;
    check_each_attempt_once(&arrivals);
    stage.all_end_well(&ids).await;
    let before = p99_beside(&arrivals, still, from, began);
    let beside = p99_beside(&arrivals, still, began, ended.max(began.plus(Millis::from_secs(1))));
    let took = ended.since(began).ms();
    println!("p99 of other shards: {before} ms before, {beside} ms in the {took} ms beside it");
    assert!(
        beside <= 2 * before + SLACK_MS,
        "{beside} ms late beside a shard that stands still, {before} before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_cannot_save_hurts_no_other() {
    only_on!(Cluster, "it is about MariaDB");
    let stage = Stage::new(Plan::default()).await;
    let locked = async {
        let source = stage.cluster.servers().source(0);
        // Its tasks can be neither begun nor claimed, and outcomes cannot be saved.
        let lock = "LOCK TABLES task_001 WRITE, history_001 WRITE; DO SLEEP(6); UNLOCK TABLES";
        tokio::task::spawn_blocking(move || source.sql(lock)).await.expect("it does not panic");
    };
    beside(&stage, 11, 1, locked).await;
}

#[expect(clippy::disallowed_methods, reason = "how large a test is, not how the product behaves")]
fn history() -> u64 {
    std::env::var("TSP_TEST_HISTORY").ok().and_then(|rows| rows.parse().ok()).unwrap_or(HISTORY)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_with_much_history_moves_and_hurts_no_other() {
    only_on!(Cluster, "a shard of an embedded store stays");
    let stage = Stage::new(Plan::default()).await;
    let rows = history();
    let first = stage.submit(40, 0, 1).await;
    stage.all_end_well(&first).await;
    let doublings = u64::BITS - (rows - 1).leading_zeros();
    // Each of an id a millisecond before the last, which nobody makes any more.
    let fill = format!(
        "CREATE TEMPORARY TABLE t AS SELECT * FROM history_000 LIMIT 1; {} SET @n = 0; \
         UPDATE t SET id = id - (@n := @n + 1) * 4194304; INSERT INTO history_000 SELECT * FROM t LIMIT {rows}",
        "INSERT INTO t SELECT * FROM t; ".repeat(doublings as usize)
    );
    stage.cluster.servers().source(0).sql(&fill);
    let moved = async {
        let file = stage.cluster.file().display().to_string();
        let arguments = ["shard", "move", "0", "--to", "b", "--config", &file];
        let moved = run_within(Duration::from_secs(60 + rows / 2_000), &arguments).await;
        assert_eq!(moved.code, Some(0), "{}{}", moved.stdout, moved.stderr);
    };
    let seconds = 10 + i64::try_from(rows / 20_000).expect("not that many");
    beside(&stage, seconds, 0, moved).await;
    let count = stage.cluster.servers().source(1).sql("SELECT COUNT(*) FROM history_000");
    assert!(count.trim().parse::<u64>().is_ok_and(|count| count >= rows), "{count}");
}
