//! Days come ahead of their time and go whole, and nothing that is needed goes with them.

use sqlx::Row as _;
use tsp_core::Millis;
use tsp_core::config::ConfigSpec;
use tsp_core::task::Task;
use tsp_core::{Timestamp, Verdict};
use tsp_store::attempts::{AttemptStore as _, BeginResult, Finish, FinishResult, all};
use tsp_store::cluster::NodeLease;
use tsp_store::fetching::RetentionStore as _;
use tsp_store::tasks::{Actor, Subject, TaskCommand, TaskStore as _};

use crate::tests::fixture::{HOUR, NOW, Process, id, message, name, spec};
use crate::tests::site::{connect, sql};

async fn days(process: &Process, table: &str) -> Vec<String> {
    let database = process.databases.source_of(0);
    let text = format!(
        "SELECT PARTITION_NAME FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = '{database}' \
         AND TABLE_NAME = '{table}' ORDER BY PARTITION_ORDINAL_POSITION"
    );
    let rows = sql(&mut connect(database).await, &text).await;
    rows.iter().map(|row| row.get(0)).collect()
}

/// `accepted, ended, dropped`, and the rows of history.
async fn sums(process: &Process) -> [i64; 4] {
    let text = "SELECT CAST(SUM(accepted) AS SIGNED), CAST(SUM(ended) AS SIGNED), CAST(SUM(dropped) AS SIGNED), \
                (SELECT COUNT(*) FROM history_000) FROM balance_000";
    let rows = sql(&mut connect(process.databases.source_of(0)).await, text).await;
    [rows[0].get(0), rows[0].get(1), rows[0].get(2), rows[0].get(3)]
}

/// Begins what is claimed and finishes it.
async fn run(process: &Process, rows: &[Box<Task>], verdict: Verdict, now: Timestamp) -> Vec<Task> {
    let attempt_store = process.attempt_store(NodeLease::for_ever());
    let messages = rows.iter().map(|row| message(row)).collect();
    let mut finishes = Vec::new();
    for begun in all(attempt_store.begin(process.node, messages, now).await).unwrap() {
        let BeginResult::Run(row) = begun else { panic!("{begun:?}") };
        let (id, attempt, verdict) = (row.id, row.attempt, verdict.clone());
        finishes.push(Finish { id, attempt, verdict, ended_at: None, jitter_fraction: 0.5, row: Some(row) });
    }
    let finished = all(attempt_store.finish(process.node, finishes, now).await).unwrap();
    finished
        .into_iter()
        .map(|one| if let FinishResult::Saved(task) = one { *task } else { panic!("{one:?}") })
        .collect()
}

async fn apply_all_retention(process: &Process, now: Timestamp) -> usize {
    let of = process.fetcher_store("default", 0);
    let mut all = 0;
    for _ in 0..100 {
        let removed = of.apply_retention(50, now).await.unwrap();
        assert!(removed <= 50);
        if removed == 0 {
            return all;
        }
        all += removed;
    }
    panic!("it must come to an end");
}

#[tokio::test]
async fn a_day_goes_whole_when_no_config_keeps_it() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, ConfigSpec { retention: Millis::from_days(7), ..spec("long") }).await;
    for number in 1..=20 {
        process.submit(&config, 0, number).await;
    }
    let owner = process.take("default", 0, HOUR).await;
    let claimed = process.claim(owner, &config, 0).await;
    // One is tried again and again, and outlives the day of its first attempt.
    let tried = run(&process, &claimed[..1], Verdict::retry("x"), NOW).await.remove(0);
    let failed = run(&process, &claimed[1..3], Verdict::fail("x"), NOW).await;
    run(&process, &claimed[3..], Verdict::done(), NOW).await;
    assert_eq!(sums(&process).await, [20, 19, 0, 19]);
    let before = days(&process, "history_000").await;

    let early = NOW.plus(Millis::from_days(7));
    assert_eq!(apply_all_retention(&process, early).await, 0, "the day is not over");
    assert_eq!(sums(&process).await, [20, 19, 0, 19]);
    let after = days(&process, "history_000").await;
    assert!(!after.contains(&before[0]), "yesterday was empty and is past: {after:?}");
    assert!(after.contains(&"p20261201".to_owned()), "three days ahead: {after:?}");

    let late = NOW.plus(Millis::from_days(8));
    assert!(apply_all_retention(&process, late).await > 0);
    assert_eq!(sums(&process).await, [20, 19, 19, 0], "what went is counted");
    assert!(!days(&process, "history_000").await.contains(&"p20261121".to_owned()));
    for task in &failed {
        assert!(process.store.task(task.id).await.unwrap().is_none());
        assert!(process.store.attempts(task.id).await.unwrap().is_empty(), "its attempts went, too");
    }
    assert_eq!(process.store.attempts(tried.id).await.unwrap().len(), 1);
    assert!(days(&process, "attempt_000").await.contains(&"p20261121".to_owned()), "for its sake");
    process.store.change(Subject::Id(tried.id), TaskCommand::Cancel, &Actor::system(), NOW).await.unwrap();
    let later = late.plus(Millis::from_days(1));
    apply_all_retention(&process, later).await;
    assert!(process.store.attempts(tried.id).await.unwrap().is_empty());
}

/// Those that keep their history shorter than others lose it row by row, at their time.
#[tokio::test]
async fn a_shorter_retention_is_kept_to_the_moment() {
    let process = Process::first().await;
    let app = process.app().await;
    process.config(app, ConfigSpec { retention: Millis::from_days(7), ..spec("long") }).await;
    let short = process.config(app, ConfigSpec { retention: HOUR, ..spec("short") }).await;
    for number in 1..=5 {
        process.submit(&short, 0, number).await;
    }
    let owner = process.take("default", 0, HOUR).await;
    run(&process, &process.claim(owner, &short, 0).await, Verdict::done(), NOW).await;
    assert_eq!(apply_all_retention(&process, NOW.plus(HOUR).minus(Millis::from_ms(1))).await, 0);
    assert_eq!(apply_all_retention(&process, NOW.plus(HOUR)).await, 5);
    assert_eq!(sums(&process).await, [5, 5, 5, 0]);
}

/// A process that does not know a config yet does not take its rows for those of a deleted one.
#[tokio::test]
async fn what_is_of_a_new_config_stays() {
    let process = Process::first().await;
    let other = process.another().await;
    let app = process.app().await;
    let config = process.config(app, spec("new")).await;
    process.submit(&config, 0, 1).await;
    let owner = process.take("default", 0, HOUR).await;
    run(&process, &process.claim(owner, &config, 0).await, Verdict::done(), NOW).await;
    assert_eq!(apply_all_retention(&other, NOW.plus(HOUR)).await, 0);
    assert!(process.store.task(id(0, 1)).await.unwrap().is_some());
}

/// Sums of processes that are gone join those of the one that is there.
#[tokio::test]
async fn the_sums_of_dead_processes_are_kept() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    let other = process.another().await;
    other.store.follow().await.unwrap();
    other.submit(&config, 0, 1).await;
    process.submit(&config, 0, 2).await;
    let nodes = async || {
        let rows =
            sql(&mut connect(process.databases.source_of(0)).await, "SELECT node FROM balance_000").await;
        rows.iter().map(|row| row.get::<i64, _>(0)).collect::<Vec<_>>()
    };
    apply_all_retention(&process, NOW).await;
    assert_eq!(nodes().await, [process.node.get(), other.node.get()], "both live");
    let dead = format!("UPDATE node SET dead_at = 1 WHERE id = {}", other.node.get());
    sql(&mut connect(process.databases.meta()).await, &dead).await;
    apply_all_retention(&process, NOW.plus(HOUR)).await;
    assert_eq!(nodes().await, [process.node.get()]);
    assert_eq!(sums(&process).await, [2, 0, 0, 0]);
}

#[tokio::test]
async fn the_record_of_a_dead_process_is_kept_for_30_days() {
    let process = Process::first().await;
    let other = process.another().await;
    let dead = format!("UPDATE node SET dead_at = {} WHERE id = {}", NOW.ms(), other.node.get());
    sql(&mut connect(process.databases.meta()).await, &dead).await;
    let nodes = async || {
        let rows = sql(&mut connect(process.databases.meta()).await, "SELECT id FROM node ORDER BY id").await;
        rows.iter().map(|row| row.get::<i64, _>(0)).collect::<Vec<_>>()
    };
    let over = NOW.plus(Millis::from_days(30));
    apply_all_retention(&process, over.minus(Millis::from_ms(1))).await;
    assert_eq!(nodes().await, [process.node.get(), other.node.get()]);
    apply_all_retention(&process, over).await;
    assert_eq!(nodes().await, [process.node.get()]);
}

/// Only the owner of the default group applies retention to a shard, so that no two do.
#[tokio::test]
async fn another_group_prunes_nothing() {
    let (process, group) = (Process::first().await, name("vip"));
    let app = process.app().await;
    let config = process.config(app, ConfigSpec { group, retention: HOUR, ..spec("vip") }).await;
    process.submit(&config, 0, 1).await;
    let cancelled =
        process.store.change(Subject::Id(id(0, 1)), TaskCommand::Cancel, &Actor::system(), NOW).await;
    cancelled.unwrap();
    let late = NOW.plus(HOUR);
    assert_eq!(process.fetcher_store("vip", 0).apply_retention(10, late).await.unwrap(), 0);
    assert_eq!(process.fetcher_store("default", 0).apply_retention(10, late).await.unwrap(), 1);
}
