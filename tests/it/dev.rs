//! `tsp dev`: days pass in seconds, in order, each callback once.

use serde_json::{Value, json};
use tsp_core::{Millis, Timestamp};

use crate::harness::{
    Api, Arrival, Config, Receiver, Reply, Task, Tsp, backoff, id_of, now, only_on, past, time,
};

const APP: &str = "demo";

async fn advance(api: &Api, by: &str) -> Value {
    api.post("/dev/clock", &json!({ "advance": by })).await.expect(200)
}

/// A server that calls back each hour, first at `first`.
struct Hourly {
    tsp: Tsp,
    receiver: Receiver,
    api: Api,
    first: Timestamp,
}

impl Hourly {
    async fn start() -> Self {
        let tsp = Tsp::dev().await;
        let receiver = Receiver::start().await;
        let api = tsp.api().without_key();
        let hourly = json!({ "type": "cron", "expr": "0 0 * * * ?", "timezone": "UTC" });
        let config = api.config(APP, Config::cron("hourly", &receiver.url("/hourly"), &hourly)).await;
        let first = time(config["next_fire_at"].as_str().expect("a schedule that fires"));
        Self { tsp, receiver, api, first }
    }
}

#[tokio::test]
async fn accept_three_days_pass_in_order_each_callback_once() {
    only_on!(Embedded, "`tsp dev` is one process");
    let Hourly { tsp: _running, receiver, api, first } = Hourly::start().await;
    api.config(APP, Config::delayed("later", &receiver.url("/later")).set("retry", backoff(3, "2h"))).await;
    receiver.script("/later", vec![Reply::ok(), Reply::status(500), Reply::ok()]);
    let mut due = Vec::new();
    for delay in ["1h30m", "26h", "2d20h", "4d"] {
        due.push(id_of(&api.submit(APP, Task::of("later").delay(delay)).await));
    }
    let start = time(api.task(&due[0]).await["created_at"].as_str().expect("the service's time"));
    let answer = advance(&api, "3d").await;
    let end = time(answer["now"].as_str().expect("the new time"));
    assert!(end.since(start) >= Millis::from_days(3), "{start} became {end}");
    // The clock goes on meanwhile, perhaps into the next hour.
    let mut arrivals = receiver.arrivals();
    arrivals.retain(|one| one.execute_at() <= end);
    println!("3 days passed: {} callbacks, {answer}", arrivals.len());

    let hourly = arrivals.iter().filter(|one| one.path == "/hourly");
    let slots: Vec<_> = hourly.map(Arrival::execute_at).collect();
    assert_eq!(slots, whole_hours(first, end), "each hour once, in order");
    let later: Vec<_> =
        receiver.at("/later").iter().map(|one| (one.task().to_owned(), one.attempt())).collect();
    let wanted = [(due[0].clone(), 1), (due[1].clone(), 1), (due[1].clone(), 2), (due[2].clone(), 1)];
    assert_eq!(later, wanted, "a retry comes in its virtual time, and the fourth day has not come");
    let firsts: Vec<_> = arrivals.iter().filter(|one| one.attempt() == 1).map(Arrival::execute_at).collect();
    assert!(firsts.is_sorted(), "callbacks of all configs come in the order of their times");
    assert_eq!(answer["fired"].as_u64(), Some(arrivals.len() as u64), "{answer}");
    for id in &due[..3] {
        assert_eq!(api.task(id).await["state"], "ended", "it answers when all has ended");
    }
    assert_eq!(api.task(&due[3]).await["state"], "scheduled");
}

/// The whole hours from `first`, which is one, up to `to`.
fn whole_hours(first: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    (first.ms()..=to.ms()).step_by(3_600_000).map(Timestamp::from_ms).collect()
}

/// It is not taken for work that is held back.
#[tokio::test]
async fn a_machine_that_stands_still_makes_the_clock_pass_over_nothing() {
    only_on!(Embedded, "`tsp dev` is one process");
    let Hourly { tsp, receiver, api, first } = Hourly::start().await;
    let stand_still = async {
        for _ in 0..8 {
            tsp.stand_still(Millis::from_ms(600)).await;
            past(now().plus(Millis::from_ms(15))).await;
        }
    };
    let (answer, ()) = tokio::join!(advance(&api, "2d"), stand_still);
    let end = time(answer["now"].as_str().expect("the new time"));
    let slots: Vec<_> = receiver.arrivals().iter().map(Arrival::execute_at).filter(|at| *at <= end).collect();
    assert_eq!(slots, whole_hours(first, end), "each hour once, in order");
}

/// `max_age` (two days by default) is for failing, not for waiting.
#[tokio::test]
async fn days_of_waiting_use_up_no_age() {
    only_on!(Embedded, "`tsp dev` is one process");
    let tsp = Tsp::dev().await;
    let receiver = Receiver::start().await;
    let api = tsp.api().without_key();
    let config = |name: &str| Config::delayed(name, &receiver.url(&format!("/{name}")));
    let asynchronous = json!({ "enabled": true, "deadline": "3d" });
    api.config(APP, config("held")).await;
    api.config(APP, config("awaited").set("async", asynchronous)).await;
    receiver.script("/held", vec![Reply::status(503), Reply::ok()]);
    receiver.script("/awaited", vec![Reply::status(202), Reply::status(503), Reply::ok()]);
    let held = id_of(&api.submit(APP, Task::of("held").delay("1h")).await);
    let awaited = id_of(&api.submit(APP, Task::of("awaited")).await);
    api.post("/apps/demo/configs/held/pause", &json!({})).await.expect(200);
    advance(&api, "4d").await;
    api.post("/apps/demo/configs/held/resume", &json!({})).await.expect(200);
    advance(&api, "1h").await;
    for (id, attempt) in [(held, 2), (awaited, 3)] {
        let task = api.task(&id).await;
        assert_eq!((&task["result"], &task["attempt"]), (&json!("succeeded"), &json!(attempt)), "{task}");
    }
}

#[tokio::test]
async fn it_has_an_app_a_config_and_an_inbox() {
    only_on!(Embedded, "`tsp dev` is one process");
    let tsp = Tsp::dev().await;
    let api = tsp.api().without_key();
    let id = id_of(&api.submit(APP, Task::of("hello").payload(json!({ "hello": "world" }))).await);
    api.wait_for_end(&id, "succeeded").await;
}

#[tokio::test]
async fn only_loopback_names_are_let_in_without_a_key() {
    only_on!(Embedded, "`tsp dev` is one process");
    let tsp = Tsp::dev().await;
    let api = tsp.api().without_key();
    let get = async |headers: &[(&'static str, String)]| {
        api.send(reqwest::Method::GET, "/api/v1/apps", headers, None).await.status
    };
    let header = crate::harness::header;
    assert_eq!(get(&[]).await, 200);
    assert_eq!(get(&[header("host", "localhost:8080")]).await, 200);
    assert_eq!(get(&[header("host", "evil.example")]).await, 403, "a rebound name must not get in");
    assert_eq!(get(&[header("origin", "https://evil.example")]).await, 403);
    assert_eq!(get(&[header("origin", "http://127.0.0.1:3000")]).await, 200);
}

#[tokio::test]
async fn it_stops_at_once_while_it_calls_itself() {
    only_on!(Embedded, "`tsp dev` is one process");
    let mut tsp = Tsp::dev().await;
    let api = tsp.api().without_key();
    let tasks: Vec<_> = (0..500).map(|_| Task::of("hello").json()).collect();
    api.post(&format!("/apps/{APP}/tasks/batch"), &json!({ "tasks": tasks })).await.expect(200);
    let asked = now();
    assert!(tsp.stop().await.success());
    let took = now().since(asked).ms();
    // Less than the time-out of a callback that nobody answers.
    assert!(took < 8_000, "{took} ms");
}
