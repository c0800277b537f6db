//! From an empty folder to the first callback, and what the callback carries.

use serde_json::json;
use tsp_core::Millis;

use crate::harness::{APP, Scene, Task, id_of, now, time};

#[tokio::test]
async fn a_submitted_task_arrives_once_at_its_time_with_all_its_headers() {
    let scene = Scene::new().await;
    let target = json!({
        "type": "http", "url": scene.receiver.url("/close?from=tsp"), "method": "PUT",
        "headers": { "X-Fixed": "a", "X-Shop": "config" },
    });
    scene.delayed("close-order", |config| config.set("target", target)).await;
    let due = now().plus(Millis::from_ms(700));
    let task = Task::of("close-order")
        .key("order/42 ü")
        .at(due)
        .payload(json!({ "order": 42, "text": "ü" }))
        .set("headers", json!({ "X-Shop": "7" }));
    let task = scene.api.submit(APP, task).await;
    assert_eq!(task["state"], "scheduled");
    assert_eq!(task["execute_at"], due.to_string().as_str());

    let arrival = scene.receiver.nth(1).await;
    assert!(arrival.lateness_ms() >= 0, "{} ms early", -arrival.lateness_ms());
    assert_eq!(arrival.method, "PUT");
    assert_eq!(arrival.path, "/close");
    assert_eq!(arrival.execute_at(), due);
    assert_eq!(arrival.task(), id_of(&task));
    assert_eq!(arrival.header("idempotency-key"), id_of(&task));
    assert_eq!(arrival.attempt(), 1);
    assert_eq!(arrival.header("tsp-app"), APP);
    assert_eq!(arrival.header("tsp-config"), "close-order");
    assert_eq!(arrival.header("tsp-sharding-id"), "0");
    assert_eq!(arrival.header("tsp-sharding-count"), "1");
    assert_eq!(arrival.header("content-type"), "application/json");
    assert_eq!(arrival.header("x-fixed"), "a");
    assert_eq!(arrival.header("x-shop"), "7", "the submit's headers win");
    assert!(arrival.header("user-agent").starts_with("tsp/"), "{:?}", arrival.headers);
    assert!(arrival.header("tsp-key").contains("%C3%BC"), "{:?}", arrival.headers);
    assert_eq!(arrival.find("tsp-completion-token"), None, "the config is not async");
    assert_eq!(arrival.find("webhook-signature"), None, "the config has no secret");
    assert_eq!(arrival.header("traceparent").len(), 55, "{:?}", arrival.headers);

    let ended = scene.api.wait_for_end(&id_of(&task), "succeeded").await;
    assert_eq!(ended["attempt"], 1);
    assert_eq!(ended["last_outcome"]["outcome"], "done");
    assert_eq!(ended["last_outcome"]["http_status"], 200);
    assert!(time(ended["started_at"].as_str().unwrap()) >= due, "{ended:#}");
    assert_eq!(scene.receiver.count(), 1);
}

#[tokio::test]
async fn a_payload_travels_byte_for_byte() {
    let scene = Scene::new().await;
    scene.delayed("plain", |config| config).await;
    let payload = r#"{"b": 1.10, "a" : [1e2,  null], "big":123456789012345678901234567890}"#;
    let body = format!(r#"{{"config":"plain","payload":{payload}}}"#);
    let path = format!("/api/v1/apps/{APP}/tasks");
    let answer = scene.api.try_send(reqwest::Method::POST, &path, &[], Some(body.into_bytes())).await;
    answer.expect("the service runs").expect(201);
    let arrival = scene.receiver.nth(1).await;
    assert_eq!(String::from_utf8_lossy(&arrival.body), payload);
}

#[tokio::test]
async fn no_payload_means_no_body_and_the_config_has_the_default_one() {
    let scene = Scene::new().await;
    scene.delayed("bare", |config| config).await;
    scene.delayed("with-default", |config| config.set("payload", json!({ "default": true }))).await;
    scene.submit(Task::of("bare")).await;
    scene.submit(Task::of("with-default")).await;
    let bare = scene.receiver.nth_at("/bare", 1).await;
    assert!(bare.body.is_empty(), "{:?}", bare.body);
    assert_eq!(bare.find("content-type"), None);
    let full = scene.receiver.nth_at("/with-default", 1).await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&full.body).unwrap(), json!({ "default": true }));
}

#[tokio::test]
async fn a_get_callback_never_has_a_body() {
    let scene = Scene::new().await;
    let target = json!({ "type": "http", "url": scene.receiver.url("/ping"), "method": "GET" });
    scene.delayed("ping", |config| config.set("target", target)).await;
    scene.submit(Task::of("ping").payload(json!({ "a": 1 }))).await;
    let arrival = scene.receiver.nth(1).await;
    assert_eq!((arrival.method.as_str(), arrival.body.len()), ("GET", 0));
    assert_eq!(arrival.find("content-type"), None);
}

#[tokio::test]
async fn a_past_time_is_kept_and_due_now() {
    let scene = Scene::new().await;
    scene.delayed("late", |config| config).await;
    let yesterday = now().minus(Millis::from_days(1));
    let task = scene.api.submit(APP, Task::of("late").at(yesterday)).await;
    assert_eq!(task["execute_at"], yesterday.to_string().as_str());
    assert!(time(task["due_at"].as_str().unwrap()) > yesterday.plus(Millis::from_hours(23)), "{task:#}");
    let arrival = scene.receiver.nth(1).await;
    assert_eq!(arrival.execute_at(), yesterday);
    let attempts = {
        scene.api.wait_for_end(&id_of(&task), "succeeded").await;
        scene.api.get(&format!("/tasks/{}/attempts", id_of(&task))).await.expect(200)
    };
    let lateness = attempts["items"][0]["lateness_ms"].as_i64().expect("an attempt has its lateness");
    assert!((0..3_600_000).contains(&lateness), "lateness counts from the due time: {attempts:#}");
}

#[tokio::test]
async fn what_was_accepted_survives_a_restart() {
    let mut scene = Scene::new().await;
    scene.delayed("kept", |config| config).await;
    let id = scene.submit(Task::of("kept").in_ms(3_000)).await;
    scene.tsp.kill9().await;
    scene.tsp.restart().await;
    // It is known; on a slow machine it may be due already.
    scene.api.task(&id).await;
    let arrival = scene.receiver.nth(1).await;
    assert_eq!((arrival.task(), arrival.attempt()), (id.as_str(), 1));
    assert!(arrival.lateness_ms() >= 0, "{} ms early", -arrival.lateness_ms());
    scene.api.wait_for_end(&id, "succeeded").await;
    let status = scene.tsp.stop().await;
    assert!(status.success(), "a stop that was asked for ended with {status}");
}

#[tokio::test]
async fn a_graceful_stop_lets_a_running_callback_end_and_saves_its_outcome() {
    let mut scene = Scene::new().await;
    scene.delayed("slow", |config| config).await;
    let gate = crate::harness::Gate::closed();
    scene.receiver.always("/slow", crate::harness::Reply::ok().after(&gate));
    let id = scene.submit(Task::of("slow")).await;
    scene.receiver.nth(1).await;
    scene.tsp.ask_to_stop().await;
    // It still answers or refuses; either way it must wait for the call that is on the wire.
    gate.open();
    let status = scene.tsp.ended().await;
    assert!(status.success(), "{status}");
    scene.tsp.restart().await;
    let task = scene.api.wait_for_end(&id, "succeeded").await;
    assert_eq!(task["attempt"], 1, "{task:#}");
    assert_eq!(scene.receiver.count(), 1);
}
