//! nsqd dies with messages that only it has.

use std::sync::Arc;
use std::time::Duration;

use peers::Nsqd;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use super::{Stage, check_each_attempt_once};
use crate::harness::cluster::{Plan, Role, items};
use crate::harness::figures::MACHINE;
use crate::harness::ledger::check_arrivals;
use crate::harness::servers::{Databases, ServerPlan};
use crate::harness::{APP, Arrival, Config, Task, in_time, only_on};

const TASKS: usize = 300;
/// A hint that died with an nsqd is made up for by the next resync, after five seconds.
const ONE_DOWN_MS: i64 = 8_000 + MACHINE.ms();
const TOPIC: &str = "tsp.q.default";
/// That an nsqd was lost is noticed within two seconds, and what it had is sent again two seconds later. What nobody has
/// noticed is sent again after half a minute.
const RESEND: Duration = Duration::from_secs(25);

fn plan(nsqds: usize) -> Plan {
    let servers = ServerPlan { databases: Databases::Shared, nsqds, lookupd: false, edges: false };
    Plan { servers, workers: 2, ..Plan::default() }
}

/// A count of nsqd over the channels of the queue.
pub(super) fn count(nsqd: &Nsqd, field: &str) -> i64 {
    let path = format!("/stats?format=json&topic={TOPIC}&include_clients=false&include_mem=false");
    let text = nsqd.get(&path).unwrap_or_else(|error| panic!("{error}"));
    let stats: Value = serde_json::from_str(&text).expect("nsqd answers JSON");
    let channels = stats["topics"].as_array().into_iter().flatten();
    let channels = channels.filter_map(|topic| topic["channels"].as_array()).flatten();
    channels.filter_map(|channel| channel[field].as_i64()).sum()
}

/// Messages that wait in the nsqd for a worker, or were sent to one and not answered.
fn held(nsqd: &Nsqd) -> i64 {
    count(nsqd, "depth") + count(nsqd, "in_flight_count")
}

/// Waits until so many messages are in the hands of the nsqd.
async fn piled_up(nsqds: &[Arc<Nsqd>], least: i64) -> i64 {
    let all = || nsqds.iter().map(|nsqd| held(nsqd)).sum::<i64>();
    in_time(format!("{least} messages in the queue"), async {
        let mut look = interval(Duration::from_millis(50));
        while all() < least {
            look.tick().await;
        }
    })
    .await;
    all()
}

#[tokio::test]
async fn messages_that_die_with_their_nsqd_are_sent_again() {
    only_on!(Cluster, "it is about nsqd");
    let mut stage = Stage::new(plan(1)).await;
    let nsqds = stage.cluster.servers().nsqds().to_vec();
    for worker in 0..2 {
        stage.cluster.process(Role::Worker, worker).freeze().await;
    }
    let ids = stage.submit(TASKS, 0, 0).await;
    let lost = piled_up(&nsqds, 50).await;
    nsqds[0].kill();
    nsqds[0].restart().unwrap_or_else(|error| panic!("{error}"));
    for worker in 0..2 {
        stage.cluster.process(Role::Worker, worker).thaw().await;
    }
    let came = timeout(RESEND, stage.receiver.until_at_last(|all: &[Arrival]| all.len() >= TASKS)).await;
    let arrivals = came.unwrap_or_else(|_| {
        panic!("{} of {TASKS} tasks came within {RESEND:?} after nsqd was killed", stage.receiver.count())
    });
    let longest = arrivals.iter().map(Arrival::lateness_ms).max().unwrap_or(0);
    println!("{lost} messages died with nsqd; the last came {longest} ms late");
    stage.all_end_well(&ids).await;
    let arrivals = stage.receiver.arrivals();
    check_arrivals(&arrivals);
    check_each_attempt_once(&arrivals);
    assert_eq!(arrivals.len(), TASKS, "each task was to be called once");
}

/// Room for as many messages, and for the callbacks of those who take them.
const WIDE: &str = "\n[worker]\nconcurrency = 6400\n";
const MANY: usize = 10_200;
/// With no factor in common with the number of shards: a config's tasks go to them in turn, and each may have only
/// so many of its own in the pipe.
const MANY_CONFIGS: usize = 7;

#[tokio::test]
async fn ten_thousand_messages_die_with_their_nsqd_and_each_task_runs_once() {
    only_on!(Cluster, "it is about nsqd");
    let mut stage = Stage::new(Plan { more: WIDE, ..plan(1) }).await;
    let nsqds = stage.cluster.servers().nsqds().to_vec();
    for number in 0..MANY_CONFIGS {
        let config = Config::delayed(&format!("wide-{number}"), &stage.receiver.url("/wide"));
        stage.api.config(APP, config.set("span", json!(0))).await;
    }
    for worker in 0..2 {
        stage.cluster.process(Role::Worker, worker).freeze().await;
    }
    for first in (0..MANY).step_by(1_000) {
        let numbers = first..(first + 1_000).min(MANY);
        let task = |number: usize| Task::of(&format!("wide-{}", number % MANY_CONFIGS)).in_ms(0).json();
        let tasks: Vec<_> = numbers.map(task).collect();
        stage.api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await.expect(200);
    }
    let lost = piled_up(&nsqds, 10_000).await;
    nsqds[0].kill();
    nsqds[0].restart().unwrap_or_else(|error| panic!("{error}"));
    for worker in 0..2 {
        stage.cluster.process(Role::Worker, worker).thaw().await;
    }
    // However long so many take, the first ones are as prompt as few, and none keeps the next one waiting for long.
    let mut came = 0;
    while came < MANY {
        let more = stage.receiver.until_at_last(|all: &[Arrival]| all.len() > came);
        let more = timeout(RESEND, more).await;
        let more = more.unwrap_or_else(|_| panic!("after {came} of {MANY} tasks nothing came in {RESEND:?}"));
        came = more.len();
    }
    let arrivals = stage.receiver.arrivals();
    let longest = arrivals.iter().map(Arrival::lateness_ms).max().unwrap_or(0);
    println!("{lost} messages died with nsqd; the last came {longest} ms late");
    stage
        .api
        .wait_until("/shards", "no task is open".to_owned(), |shards| {
            let open = items(shards).iter().filter_map(|shard| shard["open"].as_i64()).sum::<i64>();
            open == 0
        })
        .await;
    let arrivals = stage.receiver.arrivals();
    check_arrivals(&arrivals);
    check_each_attempt_once(&arrivals);
    assert_eq!(arrivals.len(), MANY, "each task was to be called once");
}

#[tokio::test]
async fn with_one_nsqd_down_the_other_carries_all() {
    only_on!(Cluster, "it is about nsqd");
    let stage = Stage::new(plan(2)).await;
    let nsqds = stage.cluster.servers().nsqds().to_vec();
    let first = stage.submit(50, 0, 0).await;
    stage.all_of(&first).await;
    nsqds[0].kill();
    let second = stage.submit(200, 500, 10).await;
    let arrivals = stage.all_of(&second).await;
    let longest = arrivals.iter().map(Arrival::lateness_ms).max().unwrap_or(0);
    println!("with one of two nsqd down the longest lateness was {longest} ms");
    assert!(longest <= ONE_DOWN_MS, "{longest} ms late although one of two nsqd was well");
    let queues = stage.api.get("/queues").await.expect(200);
    assert!(items(&queues).iter().any(|queue| queue["name"] == "default"), "{queues:#}");
    nsqds[0].restart().unwrap_or_else(|error| panic!("{error}"));
    // It takes its share again: its consumers have come back.
    in_time("consumers at the nsqd that came back", async {
        let mut look = interval(Duration::from_millis(50));
        while !nsqds[0].get("/stats?format=json").is_ok_and(|text| has_clients(&text)) {
            look.tick().await;
        }
    })
    .await;
    let third = stage.submit(200, 0, 5).await;
    let arrivals = stage.all_of(&third).await;
    check_arrivals(&arrivals);
    check_each_attempt_once(&arrivals);
}

fn has_clients(stats: &str) -> bool {
    let stats: Value = serde_json::from_str(stats).unwrap_or_default();
    let topics = stats["topics"].as_array().into_iter().flatten();
    let queue: Vec<_> = topics.filter(|topic| topic["topic_name"] == TOPIC).collect();
    let channels = queue.iter().filter_map(|topic| topic["channels"].as_array()).flatten();
    channels.filter_map(|channel| channel["client_count"].as_i64()).sum::<i64>() > 0
}
