//! Asynchronous callbacks: a 202 and a token, then progress, completion or the deadline.

use serde_json::{Value, json};
use tsp_core::Millis;

use crate::harness::{Answer, Config, Gate, Reply, Scene, Task, backoff, time};

async fn scene(deadline: &str) -> Scene {
    let scene = Scene::new().await;
    let awaiting = json!({ "enabled": true, "deadline": deadline });
    let config = |config: Config| config.set("async", awaiting).set("retry", backoff(3, "100ms"));
    // A call is held for as long as a slow machine takes.
    let patient = |config: Config| config.set("timeout", json!({ "connect": "2s", "total": "1m" }));
    scene.delayed("work", |made| patient(config(made))).await;
    scene.receiver.always("/work", Reply::status(202));
    scene
}

/// Submits, waits until the task is awaited, and returns its id and token.
async fn awaited(scene: &Scene) -> (String, String) {
    let id = scene.submit(Task::of("work")).await;
    let arrival = scene.receiver.nth(1).await;
    let token = arrival.header("tsp-completion-token").to_owned();
    let task = scene.api.wait_for(&id, "awaiting").await;
    assert_eq!(task["status"], 45);
    (id, token)
}

/// The token alone must do: no key.
async fn complete(scene: &Scene, id: &str, body: Value) -> Answer {
    scene.api.without_key().post(&format!("/tasks/{id}/complete"), &body).await
}

#[tokio::test]
async fn the_token_alone_completes_a_task() {
    let scene = scene("15m").await;
    let (id, token) = awaited(&scene).await;
    assert!(token.len() >= 22, "128 bits are needed: `{token}`");
    complete(&scene, &id, json!({ "token": "no-such-token", "result": "done" }))
        .await
        .refused(403, "wrong_token");
    complete(&scene, &id, json!({ "token": token, "result": "done" })).await.expect(200);
    let task = scene.api.wait_for_end(&id, "succeeded").await;
    assert_eq!(task["attempt"], 1);
    complete(&scene, &id, json!({ "token": token, "result": "done" })).await.expect(200);
    let other = complete(&scene, &id, json!({ "token": token, "result": "fail" })).await;
    assert_eq!(other.status, 409, "{}", other.text);
    assert_eq!(scene.receiver.count(), 1);
}

#[tokio::test]
async fn a_completion_may_ask_for_a_retry_or_fail() {
    let scene = scene("15m").await;
    let (id, token) = awaited(&scene).await;
    complete(&scene, &id, json!({ "token": token, "result": "retry" })).await.expect(200);
    let second = scene.receiver.nth(2).await;
    assert_eq!((second.task(), second.attempt()), (id.as_str(), 2));
    let fresh = second.header("tsp-completion-token").to_owned();
    assert_ne!(fresh, token, "a token is for one attempt");
    scene.api.wait_for(&id, "awaiting").await;
    complete(&scene, &id, json!({ "token": token, "result": "done" })).await.refused(403, "wrong_token");
    complete(&scene, &id, json!({ "token": fresh, "result": "fail" })).await.expect(200);
    scene.api.wait_for_end(&id, "failed").await;
}

#[tokio::test]
async fn a_completion_may_be_quicker_than_its_own_202() {
    let scene = scene("15m").await;
    let gate = Gate::closed();
    scene.receiver.always("/work", Reply::status(202).after(&gate));
    let id = scene.submit(Task::of("work")).await;
    let token = scene.receiver.nth(1).await.header("tsp-completion-token").to_owned();
    complete(&scene, &id, json!({ "token": token, "result": "done" })).await.expect(200);
    scene.api.wait_for_end(&id, "succeeded").await;
    gate.open();
    scene.pass_sentinel(500).await;
    let task = scene.api.task(&id).await;
    assert_eq!((&task["result"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task:#}");
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_retry() {
    let scene = scene("700ms").await;
    let gate = Gate::closed();
    scene.receiver.script("/work", vec![Reply::status(202), Reply::status(202).after(&gate)]);
    let id = scene.submit(Task::of("work")).await;
    let old = scene.receiver.nth(1).await.header("tsp-completion-token").to_owned();
    let second = scene.receiver.nth(2).await;
    assert_eq!((second.task(), second.attempt()), (id.as_str(), 2));
    let waited = second.at.since(scene.receiver.nth(1).await.at).ms();
    assert!(waited >= 700, "the deadline came after {waited} ms");
    complete(&scene, &id, json!({ "token": old, "result": "done" })).await.refused(403, "wrong_token");
    let attempts = scene.api.get(&format!("/tasks/{id}/attempts")).await.expect(200);
    assert_eq!(attempts["items"][0]["reason"], "async_timeout", "{attempts:#}");
    // Before its own 202, from which on it would have as little time as the first.
    let token = second.header("tsp-completion-token").to_owned();
    complete(&scene, &id, json!({ "token": token, "result": "done" })).await.expect(200);
    scene.api.wait_for_end(&id, "succeeded").await;
    gate.open();
}

#[tokio::test]
async fn progress_is_shown_and_extends_the_deadline_but_never_shortens_it() {
    let scene = scene("20s").await;
    let (id, token) = awaited(&scene).await;
    let path = format!("/tasks/{id}/progress");
    let caller = scene.api.without_key();
    let before = time(scene.api.task(&id).await["due_at"].as_str().unwrap());
    let body = json!({ "token": token, "percent": 40, "message": "nearly half", "extend": "1s" });
    caller.post(&path, &body).await.expect(200);
    let task = scene.api.task(&id).await;
    assert_eq!(task["progress"]["percent"], 40, "{task:#}");
    assert_eq!(task["progress"]["message"], "nearly half", "{task:#}");
    assert_eq!(time(task["due_at"].as_str().unwrap()), before, "an extension never shortens: {task:#}");
    caller.post(&path, &json!({ "token": token, "extend": "20s" })).await.expect(200);
    let extended = time(scene.api.task(&id).await["due_at"].as_str().unwrap());
    assert!(extended > before, "{extended} is not after {before}");
    assert!(extended <= before.plus(Millis::from_secs(20)), "{extended}");
    caller.post(&path, &json!({ "token": "wrong", "percent": 50 })).await.refused(403, "wrong_token");
    let beyond = caller.post(&path, &json!({ "token": token, "percent": 101 })).await;
    beyond.refused(400, "invalid_field");
}

#[tokio::test]
async fn an_awaited_task_can_be_cancelled_and_survives_a_kill() {
    let mut scene = scene("15m").await;
    let (id, token) = awaited(&scene).await;
    scene.tsp.kill9().await;
    scene.tsp.restart().await;
    assert_eq!(scene.api.task(&id).await["state"], "awaiting");
    let answer = scene.api.act(&format!("/tasks/{id}/cancel")).await.expect(200);
    assert_eq!(answer["outcome"], "cancelled");
    let late = complete(&scene, &id, json!({ "token": token, "result": "done" })).await;
    assert!([403, 409].contains(&late.status), "{} {}", late.status, late.text);
    assert_eq!(scene.receiver.count(), 1);
}

#[tokio::test]
async fn without_the_switch_a_202_is_done() {
    let scene = Scene::new().await;
    scene.delayed("plain", |config| config).await;
    scene.receiver.always("/plain", Reply::status(202));
    let id = scene.submit(Task::of("plain")).await;
    scene.api.wait_for_end(&id, "succeeded").await;
}
