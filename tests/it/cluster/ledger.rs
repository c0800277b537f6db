//! The long ledger: faults of every kind on every part of a cluster under load, and proof that each promise was
//! kept all the same.
//!
//! `TSP_CHAOS_FAULTS` and `TSP_CHAOS_RATE` set how many faults and how many tasks a second (`make chaos-cluster`);
//! without them a short run is made.

mod faults;
mod waits;

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, interval};

use super::Stage;
use super::queues::count;
use crate::harness::cluster::{Cluster, Plan, Role};
use crate::harness::figures::metric;
use crate::harness::ledger::{
    Ledger, Load, Pace, check_arrivals, check_slots, decide_slowly, every_task_arrived,
    one_task_for_each_key, patience,
};
use crate::harness::operators::{Operators, Stories};
use crate::harness::servers::{Databases, ServerPlan};
use crate::harness::wire::{LOST, LostAttempt, by_attempt, overlapping};
use crate::harness::{APP, Arrival, Config, Task, TestRng, now, only_on, past, seldom, turn};
use faults::{Deck, Fault, Move, table};
use tsp_core::{Millis, Timestamp};
use waits::Waits;

const SUBMITTERS: u64 = 10;
/// Submits a second, of all of them together, at most.
const SUBMITS: u64 = 100;
/// Tasks a second.
const RATE: u64 = 250;
/// Tasks due at once, to see how many this machine calls in a second.
const BURST: usize = 500;
/// How late a callback is at most in a cluster that has found its feet: processes find each other's nsqd by and by,
/// and a hint that nobody receives is made up for after five seconds.
const WARM: Millis = Millis::from_ms(1_000);
/// A message that died with its nsqd is sent again after half a minute; nothing takes longer.
const RECOVERY: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a stopping process waits for its callbacks.
const GRACE: Millis = Millis::from_secs(30);
/// Faults of a short run.
const SHORT: u64 = 3;
/// How long a fault lasts at most: more than a lease, also in a short run.
const LONGEST: [Millis; 2] = [Millis::from_secs(7), Millis::from_secs(12)];

fn number(variable: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the length of a run is chosen where it is started")]
    let text = std::env::var(variable);
    text.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("`{variable}` is a number: {e}")))
}

/// `TSP_CHAOS_RATE` tasks a second. The default leaves a small or slow machine room to catch up on what an outage left.
async fn pace(stage: &Stage) -> Pace {
    let rate = match number("TSP_CHAOS_RATE", 0) {
        0 => (burst(stage).await / 4).clamp(1, RATE),
        rate => rate,
    };
    let tasks = rate.div_ceil(SUBMITS);
    println!("{rate} tasks a second");
    let every = Duration::from_micros(1_000_000 * SUBMITTERS * tasks / rate);
    Pace { submitters: SUBMITTERS, every, tasks }
}

/// Callbacks a second when many are due at once.
async fn burst(stage: &Stage) -> u64 {
    let config = Config::delayed("burst", &stage.receiver.url("/burst")).set("span", json!(0));
    stage.api.config(APP, config).await;
    let due = now().plus(Millis::from_secs(2));
    let tasks: Vec<_> = (0..BURST).map(|_| Task::of("burst").at(due).json()).collect();
    stage.api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await.expect(200);
    let first = stage.receiver.nth_at("/burst", 1).await;
    // Of the other half nobody may know yet.
    let half = stage.receiver.nth_at("/burst", BURST / 2).await;
    let ms = half.at.since(first.at).ms().max(1).unsigned_abs();
    1_000 * u64::try_from(BURST / 2).expect("it is small") / ms
}

/// Waits until the last two hundred callbacks of the load came in time, and returns when that was.
async fn warm(stage: &Stage) -> Timestamp {
    let recent = |all: &[Arrival]| {
        let last: Vec<_> = all.iter().rev().filter(|one| one.path == "/work").take(200).collect();
        last.len() == 200 && last.iter().all(|one| one.attempt() > 1 || one.lateness_ms() < WARM.ms())
    };
    stage.receiver.until("a cluster without delays".to_owned(), recent).await;
    now()
}

async fn stage() -> Stage {
    let servers = ServerPlan { databases: Databases::Own, nsqds: 2, lookupd: true, edges: true };
    let plan = Plan { servers, webs: 2, fetchers: 2, workers: 2, ..Plan::default() };
    let stage = Stage::on(Cluster::start_alone(plan).await).await;
    stage
        .api
        .patch(&format!("/apps/{APP}/configs/work"), &json!({ "timeout": patience() }))
        .await
        .expect(200);
    stage.receiver.on("/work", decide_slowly);
    let misfire = json!({ "policy": "fire_all", "max": 100, "grace": "1h" });
    let schedule = json!({ "type": "every", "interval": "1s", "misfire": misfire, "overlap": "allow" });
    stage.api.config(APP, Config::cron("tick", &stage.receiver.url("/tick"), &schedule)).await;
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_through_faults_of_every_kind() {
    only_on!(Cluster, "it is about several processes");
    let _machine = turn::alone().await;
    let mut stage = stage().await;
    let ledger = Ledger::default();
    let pace = pace(&stage).await;
    let begun_at = now();
    let load = Load::start(&stage.cluster.apis(), pace, &ledger);
    let warm_at = warm(&stage).await;
    println!("callbacks were in time {} ms after the first submit", warm_at.since(begun_at).ms());
    let mut rng = TestRng::fresh();
    let operators = Operators::start(&stage.cluster.apis(), &stage.receiver, &mut rng).await;
    let count = usize::try_from(number("TSP_CHAOS_FAULTS", SHORT)).expect("it is small");
    let faults = strike(&mut stage, &ledger, &mut rng, count).await;
    load.stop().await;
    let stories = operators.stop().await;
    every_task_arrived(&stage.receiver, &ledger, RECOVERY).await;
    // Not disabled: its last task would wait for the day on which it is enabled.
    let seldom = json!({ "schedule": seldom() });
    stage.api.patch(&format!("/apps/{APP}/configs/tick"), &seldom).await.expect(200);
    all_ended(&stage).await;
    nothing_is_out(&mut stage).await;

    let tasks = one_task_for_each_key(&stage.api, ledger.len()).await;
    for task in &tasks {
        assert_eq!(task["result"], "succeeded", "the receiver lets every task succeed: {task:#}");
    }
    for role in [Role::Web, Role::Fetcher, Role::Worker] {
        for number in 0..2 {
            let asked_at = now();
            let status = stage.cluster.process(role, number).stop().await;
            assert!(status.success(), "`{}-{number}` ended with {status}", role.name());
            // Nothing runs any more.
            let took = now().since(asked_at);
            assert!(took < GRACE, "`{}-{number}` took {} ms to stop", role.name(), took.ms());
        }
    }
    let work = stage.receiver.at("/work");
    let waits = Waits::of(&work, &tasks);
    println!("\n{}", table(&faults, &waits, begun_at));
    let repeats = work.iter().filter(|one| one.attempt() > 1).count();
    let slots = check_slots("tick", &stage.receiver.at("/tick"));
    println!("{} accepted, {} arrivals, {repeats} repeats, {slots} slots", tasks.len(), work.len());
    let all = stage.receiver.arrivals();
    check_arrivals(&all);
    check_store(&stage);
    check_wire(&stage, &all, &faults, &stories);
    waits.check(&faults, warm_at);
}

/// Hits one thing after another, half of the time two before the first is over. Returns what was done.
async fn strike(stage: &mut Stage, ledger: &Ledger, rng: &mut TestRng, count: usize) -> Vec<Fault> {
    let longest = LONGEST[usize::from(count > usize::try_from(SHORT).expect("it is small"))];
    let mut deck = Deck::lasting(longest);
    let mut faults: Vec<Fault> = Vec::new();
    while faults.len() < count {
        let group = faults.len();
        loop {
            // The moment is random: it meets claims, begins and commits in every state.
            past(now().plus(Millis::from_ms(i64::try_from(300 + rng.below(2_000)).expect("it is small"))))
                .await;
            let card = deck.draw(rng);
            let moving = card.is_move().then(|| Move::start(&stage.cluster, rng));
            // Beside a move something else is hit.
            let struck = if card.is_move() { deck.draw(rng) } else { card };
            let mut over = Vec::new();
            if !struck.is_move() {
                over.push(struck.strike(&mut stage.cluster, rng).await);
            }
            if let Some(moving) = moving {
                over.push(moving.end(&stage.cluster).await);
            }
            for fault in over {
                let (accepted, arrived) = (ledger.len(), stage.receiver.count());
                println!("{}: {fault}; {accepted} accepted, {arrived} arrived", faults.len() + 1);
                faults.push(fault);
            }
            if faults.len() >= count || faults.len() - group >= 2 || rng.below(2) == 0 {
                break;
            }
        }
        // All that was accepted has come: what follows is the next fault's.
        every_task_arrived(&stage.receiver, ledger, RECOVERY).await;
        for fault in &mut faults[group..] {
            fault.over_at = now();
        }
    }
    faults
}

async fn all_ended(stage: &Stage) {
    let deadline = Instant::now() + RECOVERY;
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let open =
            "SELECT id, config_id, status, attempt, node, due_at, last_reason FROM task_{shard} LIMIT 5";
        let open = stage.cluster.servers().rows_of_shards(open);
        if open.is_empty() {
            return;
        }
        let in_time = Instant::now() < deadline;
        assert!(
            in_time,
            "tasks are open still {RECOVERY:?} after the last callback (at {}); id, config, status, attempt, node, \
             due_at, reason:\n{open}",
            now()
        );
    }
}

/// By nsqd and by the workers no message is out any more. One that nobody acknowledges would take up a permit
/// as long as its worker lives.
async fn nothing_is_out(stage: &mut Stage) {
    let workers = [0, 1].map(|number| stage.cluster.process(Role::Worker, number).api());
    let deadline = Instant::now() + RECOVERY;
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let counts = ["depth", "deferred_count", "in_flight_count"];
        let nsqds = stage.cluster.servers().nsqds().iter();
        let told: Vec<_> = nsqds.map(|nsqd| counts.map(|field| count(nsqd, field))).collect();
        let held = [workers[0].metrics().await, workers[1].metrics().await];
        assert!(held.iter().all(|metrics| metrics.contains("nsq_in_flight ")), "no such figure: {}", held[0]);
        let held = held.map(|metrics| metric(&metrics, "nsq_in_flight "));
        if held.iter().all(|held| *held < 1.0) && told.iter().flatten().all(|count| *count == 0) {
            return;
        }
        let in_time = Instant::now() < deadline;
        assert!(in_time, "messages are out still: {counts:?} of each nsqd {told:?}, at the workers {held:?}");
    }
}

/// By the store's own record no attempt of a task begins before the one before it has ended.
fn check_store(stage: &Stage) {
    let overlaps = stage.cluster.servers().rows_of_shards(
        "SELECT a.task_id, a.attempt, a.started_at, a.ended_at, a.reason, b.attempt, b.started_at, b.reason \
         FROM attempt_{shard} a JOIN attempt_{shard} b ON b.task_id = a.task_id AND b.attempt > a.attempt \
         WHERE b.started_at < a.ended_at LIMIT 5",
    );
    assert!(
        overlaps.is_empty(),
        "attempts overlap in the store; task, attempt, start, end, reason, next attempt, its start, its \
         reason:\n{overlaps}"
    );
}

/// One call of a task at a time, and no attempt given up, unless its worker was hit.
fn check_wire(stage: &Stage, arrivals: &[Arrival], faults: &[Fault], stories: &Stories) {
    let servers = stage.cluster.servers();
    let nodes = servers.rows_of_meta("SELECT id, name FROM node");
    let names: HashMap<&str, &str> = nodes.lines().filter_map(|line| line.split_once('\t')).collect();
    let hit = |node: &str, from, to| {
        if node.is_empty() {
            return faults.iter().any(|fault| fault.was_between(from, to));
        }
        let name = names.get(node).unwrap_or_else(|| panic!("node {node} has no name:\n{nodes}"));
        faults.iter().any(|fault| fault.hit(name, from, to))
    };
    stories.check(arrivals, hit);
    let mut overlapping = overlapping(arrivals);
    overlapping.retain(|[first, second]| !stories.completed(first, second.at));
    for [first, second] in &overlapping {
        let (task, attempt) = (first.task(), first.attempt());
        let node = servers.rows_of_shards(&format!(
            "SELECT node FROM attempt_{{shard}} WHERE task_id = {task} AND attempt = {attempt}"
        ));
        assert!(
            hit(node.trim(), first.at, second.at),
            "two calls at once, and no fault: {first:?}, {second:?}"
        );
    }
    let (lost, sent) = (
        LostAttempt::parse(&servers.rows_of_shards(&LOST.replace("{shard}", "_{shard}"))),
        by_attempt(arrivals),
    );
    let on_wire: Vec<_> = lost.iter().filter(|lost| lost.was_sent(&sent)).collect();
    println!(
        "{} calls beside another of their task, {} attempts lost, {} of them sent",
        overlapping.len(),
        lost.len(),
        on_wire.len()
    );
    for lost in on_wire {
        let of_hit = hit(&lost.node.to_string(), lost.began_at, lost.closed_at);
        assert!(of_hit, "a healthy attempt was declared lost: {lost:?}");
    }
}
