//! Tasks by their business key: the three answers to a key that exists, and the operations by key.

use serde_json::json;
use tsp_core::Millis;

use crate::harness::{APP, Gate, Reply, Scene, Task, id_of, now, time};

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    scene
}

fn tasks() -> String {
    format!("/apps/{APP}/tasks")
}

fn order(delay: &str, policy: &str) -> serde_json::Value {
    Task::of("work").key("order-42").delay(delay).set("on_duplicate_key", json!(policy)).json()
}

#[tokio::test]
async fn ignore_returns_the_existing_task_untouched() {
    let scene = scene().await;
    let first = scene.submit(Task::of("work").key("order-42").delay("1h")).await;
    let before = scene.api.task(&first).await;
    let answer = scene.api.post(&tasks(), &order("2h", "ignore")).await.expect(200);
    assert_eq!(answer["result"], "existing");
    assert_eq!(id_of(&answer["task"]), first);
    assert_eq!(scene.api.task(&first).await, before);
    let by_default = Task::of("work").key("order-42").delay("3h").json();
    assert_eq!(scene.api.post(&tasks(), &by_default).await.expect(200)["result"], "existing");
}

#[tokio::test]
async fn reset_moves_the_existing_task() {
    let scene = scene().await;
    let first = scene.submit(Task::of("work").key("order-42").delay("1h").payload(json!(1))).await;
    let moved = Task::of("work").key("order-42").in_ms(800).payload(json!(2));
    let answer = scene.api.post(&tasks(), &moved.set("on_duplicate_key", json!("reset")).json()).await;
    let answer = answer.expect(200);
    assert_eq!(answer["result"], "reset");
    assert_eq!(id_of(&answer["task"]), first);
    let arrival = scene.receiver.nth(1).await;
    assert_eq!((arrival.task(), &arrival.body[..]), (first.as_str(), &b"2"[..]));
    assert!(arrival.lateness_ms() >= 0, "{} ms early", -arrival.lateness_ms());
}

#[tokio::test]
async fn add_makes_another_beside_it() {
    let scene = scene().await;
    let first = scene.submit(Task::of("work").key("order-42").delay("1h")).await;
    let answer = scene.api.post(&tasks(), &order("2h", "add")).await.expect(201);
    assert_eq!(answer["result"], "created");
    assert_ne!(id_of(&answer["task"]), first);
    let canonical = scene.api.get(&format!("/apps/{APP}/configs/work/keys/order-42")).await.expect(200);
    assert_eq!(id_of(&canonical), first, "the first one keeps the key");
}

#[tokio::test]
async fn a_reset_while_executing_takes_effect_after_the_attempt() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.receiver.script("/work", vec![Reply::ok().after(&gate), Reply::ok()]);
    let id = scene.submit(Task::of("work").key("order-42")).await;
    scene.receiver.nth(1).await;
    let due = now().plus(Millis::from_ms(600));
    let again = Task::of("work").key("order-42").at(due).set("on_duplicate_key", json!("reset"));
    let answer = scene.api.post(&tasks(), &again.json()).await.expect(200);
    assert_eq!((&answer["result"], &answer["after_current"]), (&json!("reset"), &json!(true)), "{answer:#}");
    gate.open();
    let second = scene.receiver.nth(2).await;
    assert_eq!((second.task(), second.attempt()), (id.as_str(), 2));
    assert_eq!(second.execute_at(), due);
    assert!(second.lateness_ms() >= 0, "{} ms early", -second.lateness_ms());
    scene.api.wait_for_end(&id, "succeeded").await;
    assert_eq!(scene.receiver.count(), 2);
}

#[tokio::test]
async fn a_key_is_free_again_once_its_task_has_ended() {
    let scene = scene().await;
    let first = scene.submit(Task::of("work").key("order-42")).await;
    scene.api.wait_for_end(&first, "succeeded").await;
    let second = scene.submit(Task::of("work").key("order-42").delay("1h")).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn every_operation_works_by_key() {
    let scene = scene().await;
    let key = "order/42 ü%2F";
    let id = scene.submit(Task::of("work").key(key).delay("1h")).await;
    let base = format!("/apps/{APP}/configs/work/keys/order%2F42%20%C3%BC%252F");

    assert_eq!(id_of(&scene.api.get(&base).await.expect(200)), id);
    let paused = scene.api.act(&format!("{base}/pause")).await.expect(200);
    assert_eq!(paused["state"], "paused");
    let resumed = scene.api.act(&format!("{base}/resume")).await.expect(200);
    assert_eq!(resumed["state"], "scheduled");
    let due = now().plus(Millis::from_hours(9));
    let postpone = json!({ "execute_at": due.to_string() });
    let moved = scene.api.post(&format!("{base}/postpone"), &postpone).await.expect(200);
    assert_eq!(time(moved["execute_at"].as_str().unwrap()), due);
    scene.api.act(&format!("{base}/run")).await.expect(200);
    assert_eq!(scene.receiver.nth(1).await.task(), id);
    scene.api.wait_for_end(&id, "succeeded").await;
    let answer = scene.api.act(&format!("{base}/cancel")).await.expect(200);
    assert_eq!((&answer["outcome"], id_of(&answer["task"])), (&json!("already_ended"), id));

    let second = scene.submit(Task::of("work").key(key).delay("1h")).await;
    let answer = scene.api.act(&format!("{base}/cancel")).await.expect(200);
    assert_eq!((&answer["outcome"], id_of(&answer["task"])), (&json!("cancelled"), second));
    let nowhere = format!("/apps/{APP}/configs/work/keys/never-seen");
    scene.api.get(&nowhere).await.refused(404, "not_found");
    scene.api.act(&format!("{nowhere}/cancel")).await.refused(404, "not_found");
}
