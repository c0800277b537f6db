//! kill -9 at random moments under load, with a ledger of what was promised.
//!
//! `TSP_CHAOS_KILLS` sets how often (`make chaos`); without it a short run is made.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::harness::{APP, Api, Arrival, Dice, Reply, Scene, Task, backoff, header, now};

const SUBMITTERS: u64 = 4;

fn kills() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the length of a run is chosen where it is started")]
    let text = std::env::var("TSP_CHAOS_KILLS");
    text.map_or(6, |text| text.parse().expect("`TSP_CHAOS_KILLS` is a number"))
}

/// What callers were told: the key that each made and the id that the service answered with.
type Accepted = Arc<Mutex<HashMap<String, String>>>;

/// Submits until told to stop. A call that is not answered is made again with the same
/// `Idempotency-Key`, as a caller would.
async fn submit(api: Api, number: u64, accepted: Accepted, mut stop: watch::Receiver<bool>) {
    let mut dice = Dice::new(number);
    for count in 0_u64.. {
        let key = format!("order-{number}-{count}");
        let due = i64::try_from(dice.below(2_500)).unwrap();
        let task = Task::of("work").key(&key).in_ms(due).payload(json!({ "count": count }));
        // `add` lets only the Idempotency-Key stand between a retry and a second task.
        let body = task.set("on_duplicate_key", json!("add")).json().to_string().into_bytes();
        let mut pause = interval(Duration::from_millis(10));
        loop {
            pause.tick().await;
            let path = format!("/api/v1/apps/{APP}/tasks");
            let headers = [header("idempotency-key", key.clone())];
            match api.try_send(Method::POST, &path, &headers, Some(body.clone())).await {
                Ok(answer) if answer.status == 201 => {
                    let id = answer.json()["task"]["id"].as_str().expect("a task has an id").to_owned();
                    accepted.lock().insert(key.clone(), id);
                    break;
                }
                Ok(answer) if matches!(answer.status, 409 | 503) => {}
                Ok(answer) => panic!("a submit was answered {}: {}", answer.status, answer.text),
                Err(_) => {}
            }
        }
        if *stop.borrow_and_update() {
            return;
        }
    }
}

/// Answers badly now and then, by the task and not by chance, so that every attempt gets its own.
fn decide(arrival: &Arrival) -> Reply {
    let id: u64 = arrival.task().parse().unwrap_or(0);
    match (id % 17, arrival.attempt()) {
        (0, 1) => Reply::status(500),
        (1, 1) => Reply::Drop,
        (2, 1) => Reply::ok().with("tsp-result", "retry; after=1"),
        _ => Reply::ok(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_early_or_twice_at_once() {
    let mut scene = Scene::new().await;
    scene.delayed("work", |config| config.set("retry", backoff(50, "200ms"))).await;
    scene.receiver.on("/work", decide);
    let accepted = Accepted::default();
    let stop = watch::Sender::new(false);
    let mut submitters = JoinSet::new();
    for number in 0..SUBMITTERS {
        submitters.spawn(submit(scene.api.clone(), number, Arc::clone(&accepted), stop.subscribe()));
    }
    let mut dice = Dice::fresh();
    let kills = kills();
    for kill in 1..=kills {
        // After so many more callbacks: the moment is random, and there is always work in hand.
        let further = usize::try_from(20 + dice.below(400)).unwrap();
        let seen = scene.receiver.count();
        scene.receiver.nth(seen + further).await;
        scene.tsp.kill9().await;
        scene.tsp.restart().await;
        println!("kill {kill}: {} accepted, {} arrived", accepted.lock().len(), scene.receiver.count());
    }
    stop.send_replace(true);
    while let Some(ended) = submitters.join_next().await {
        ended.expect("a submitter did not fail");
    }
    let accepted = accepted.lock().clone();
    every_task_arrived(&scene, &accepted).await;
    for id in accepted.values() {
        scene.api.wait_for_end(id, "succeeded").await;
    }
    one_task_for_each_key(&scene, accepted.len()).await;
    scene.tsp.stop().await;

    let arrivals = scene.receiver.arrivals();
    let repeats = arrivals.iter().filter(|one| one.attempt() > 1).count();
    println!("{kills} kills, {} accepted, {} arrivals, {repeats} repeats", accepted.len(), arrivals.len());
    check_arrivals(&arrivals, kills);
    check_store(&scene);
}

async fn every_task_arrived(scene: &Scene, accepted: &HashMap<String, String>) {
    let missing: Mutex<std::collections::HashSet<String>> = Mutex::new(accepted.values().cloned().collect());
    let looked = Mutex::new(0);
    let all = move |arrivals: &[Arrival]| {
        let (mut missing, mut looked) = (missing.lock(), looked.lock());
        for arrival in &arrivals[*looked..] {
            missing.remove(arrival.task());
        }
        *looked = arrivals.len();
        missing.is_empty()
    };
    scene.receiver.until("a callback of every accepted task".to_owned(), all).await;
}

/// The service made no more tasks than callers had promises.
async fn one_task_for_each_key(scene: &Scene, accepted: usize) {
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/apps/{APP}/tasks?config=work&limit=500{cursor}");
        let mut page = scene.api.get(&path).await.expect(200);
        for task in page["items"].as_array().expect("a list has items") {
            *keys.entry(task["key"].as_str().expect("each has a key").to_owned()).or_default() += 1;
        }
        match page["next_cursor"].take() {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let twice: Vec<_> = keys.iter().filter(|(_, tasks)| **tasks > 1).collect();
    assert!(twice.is_empty(), "one Idempotency-Key made several tasks: {twice:?}");
    assert_eq!(keys.len(), accepted, "every submit was answered in the end");
}

fn check_arrivals(arrivals: &[Arrival], kills: u64) {
    let mut by_task: HashMap<&str, Vec<&Arrival>> = HashMap::new();
    for arrival in arrivals {
        assert!(arrival.lateness_ms() >= 0, "{} came {} ms early", arrival.task(), -arrival.lateness_ms());
        by_task.entry(arrival.task()).or_default().push(arrival);
    }
    let mut late_sends = 0;
    for (task, of_task) in by_task {
        let attempts: Vec<_> = of_task.iter().map(|one| one.attempt()).collect();
        // A process that is cut off may have one send on the wire that is read after the next one's.
        let falls = attempts.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        assert!(falls <= 1, "task {task} was attempted {attempts:?}");
        let mut each = attempts.clone();
        each.sort_unstable();
        each.dedup();
        assert_eq!(each.len(), attempts.len(), "task {task} was sent twice under one number: {attempts:?}");
        late_sends += u64::try_from(falls).unwrap();
    }
    assert!(late_sends <= kills * 128, "{late_sends} late sends");
    println!("{late_sends} late sends of cut-off processes");
}

/// By the store's own record no attempt of a task begins before the one before it has ended.
fn check_store(scene: &Scene) {
    let database = scene.tsp.database();
    let overlaps: i64 = database
        .query_row(
            "SELECT count(*) FROM attempt a JOIN attempt b ON b.task_id = a.task_id AND b.attempt > a.attempt \
             WHERE a.ended_at IS NULL OR b.started_at < a.ended_at",
            [],
            |row| row.get(0),
        )
        .expect("the table `attempt` can be read");
    assert_eq!(overlaps, 0, "attempts of one task overlap in the store");
    let open: i64 = database.query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
    assert_eq!(open, 0, "rows are left open although every task has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_retried_submits_makes_exactly_one_task_per_key() {
    let mut scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let accepted = Accepted::default();
    let stop = watch::Sender::new(false);
    let mut submitters = JoinSet::new();
    for number in 0..16 {
        submitters.spawn(submit(scene.api.clone(), number, Arc::clone(&accepted), stop.subscribe()));
    }
    let mut dice = Dice::fresh();
    for _ in 0..3 {
        let wanted = accepted.lock().len() + usize::try_from(50 + dice.below(200)).unwrap();
        let moment = now();
        let enough = Arc::clone(&accepted);
        let reached = move |_: &Value| enough.lock().len() >= wanted;
        scene.api.wait_until("/apps", format!("{wanted} accepted since {moment}"), reached).await;
        scene.tsp.kill9().await;
        scene.tsp.restart().await;
    }
    stop.send_replace(true);
    while let Some(ended) = submitters.join_next().await {
        ended.expect("a submitter did not fail");
    }
    let count = accepted.lock().len();
    one_task_for_each_key(&scene, count).await;
    println!("{count} keys through 3 kills, one task each");
}
