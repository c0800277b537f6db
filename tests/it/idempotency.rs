//! `Idempotency-Key`: the same answer again, a different body refused, and it survives a crash.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{APP, Answer, Api, Scene, Task, header, id_of};

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    api.send(Method::POST, &format!("/api/v1{path}"), &[header("idempotency-key", key)], Some(body)).await
}

fn tasks() -> String {
    format!("/apps/{APP}/tasks")
}

#[tokio::test]
async fn a_repeat_gets_the_stored_answer_even_after_a_crash() {
    let mut scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let body = Task::of("work").delay("1h").payload(json!({ "a": 1, "b": 2 })).json();
    let first = post(&scene.api, &tasks(), "key-1", &body).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    let first = first.expect(201);
    let second = post(&scene.api, &tasks(), "key-1", &body).await;
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(second.expect(201), first);
    scene.tsp.kill9().await;
    scene.tsp.restart().await;
    // Equal JSON in another order and spacing is the same body.
    let text = r#"{ "payload": {"b": 2,  "a": 1}, "delay": "1h", "config": "work" }"#;
    let path = format!("/api/v1{}", tasks());
    let headers = [header("idempotency-key", "key-1")];
    let third = scene.api.try_send(Method::POST, &path, &headers, Some(text.into())).await.unwrap();
    assert_eq!(third.header("idempotency-replayed"), Some("true"), "{third:?}");
    assert_eq!(third.expect(201), first);
    let other = Task::of("work").delay("2h").json();
    post(&scene.api, &tasks(), "key-1", &other).await.refused(422, "idempotency_mismatch");
    let fresh = post(&scene.api, &tasks(), "key-2", &body).await.expect(201);
    assert_ne!(id_of(&fresh["task"]), id_of(&first["task"]));
}

#[tokio::test]
async fn it_is_bound_to_its_path_and_its_credential() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    scene.api.app("other").await;
    let key = scene.api.key(APP, &["submit"]).await;
    let body = Task::of("work").delay("1h").json();
    let first = post(&scene.api, &tasks(), "same", &body).await.expect(201);
    let second = post(&scene.api.with_key(&key), &tasks(), "same", &body).await.expect(201);
    assert_ne!(id_of(&first["task"]), id_of(&second["task"]));
    post(&scene.api, "/apps/other/tasks", "same", &body).await.refused(404, "not_found");
}

#[tokio::test]
async fn the_elements_of_a_batch_have_their_own() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let task = Task::of("work").delay("1h").json();
    let batch = json!({ "tasks": [task, task, task] });
    let path = format!("{}/batch", tasks());
    let first = post(&scene.api, &path, "batch-1", &batch).await.expect(200);
    let second = post(&scene.api, &path, "batch-1", &batch).await.expect(200);
    let ids = |answer: &Value| -> Vec<Value> {
        answer["results"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
    };
    assert_eq!(ids(&first), ids(&second));
    let all = scene.api.get(&tasks()).await.expect(200);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3), "{all:#}");
}

#[tokio::test]
async fn apps_and_configs_have_it_and_secrets_do_not() {
    let scene = Scene::new().await;
    let app = json!({ "name": "once" });
    let first = post(&scene.api, "/apps", "app", &app).await.expect(201);
    assert_eq!(post(&scene.api, "/apps", "app", &app).await.expect(201), first);
    post(&scene.api, "/apps", "app-2", &app).await.refused(409, "already_exists");
    let config = crate::harness::Config::delayed("once", &scene.receiver.url("/")).json();
    let path = format!("/apps/{APP}/configs");
    let first = post(&scene.api, &path, "config", &config).await.expect(201);
    assert_eq!(post(&scene.api, &path, "config", &config).await.expect(201), first);
    let key = json!({ "name": "k", "scopes": ["read"] });
    let path = format!("/apps/{APP}/keys");
    let first = post(&scene.api, &path, "secret", &key).await.expect(201);
    let second = post(&scene.api, &path, "secret", &key).await.expect(201);
    assert_ne!(first["key"], second["key"], "a secret is not stored to be told again");
}
