//! What every request has in common: ids, limits of rate and size, methods and media types.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{APP, Api, Scene, Task, header};

async fn raw(
    api: &Api,
    method: Method,
    path: &str,
    headers: &[(&'static str, String)],
    body: &str,
) -> crate::harness::Answer {
    let answer = api.try_send(method, path, headers, Some(body.as_bytes().to_vec())).await;
    answer.unwrap_or_else(|e| panic!("`{path}` was not answered: {e:?}"))
}

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_stands_in_answer_and_error() {
    let scene = Scene::new().await;
    let path = "/api/v1/apps/none-such";
    let given = scene.api.send(Method::GET, path, &[header("x-request-id", "caller-17")], None).await;
    assert_eq!(given.header("x-request-id"), Some("caller-17"));
    assert_eq!(given.refused(404, "not_found")["request_id"], "caller-17");
    let made = scene.api.send(Method::GET, path, &[], None).await;
    let id = made.header("x-request-id").expect("an id is made").to_owned();
    assert!(!id.is_empty());
    assert_eq!(made.header("content-type"), Some("application/problem+json"));
    let body = made.refused(404, "not_found");
    assert_eq!(body["request_id"], id.as_str());
    assert_eq!(body["status"], 404);
    for field in ["type", "title", "detail"] {
        assert!(body[field].is_string(), "`{field}` is missing: {body:#}");
    }
}

#[tokio::test]
async fn a_traceparent_travels_to_the_callback() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let path = format!("/api/v1/apps/{APP}/tasks");
    let body = Task::of("work").json();
    scene
        .api
        .send(Method::POST, &path, &[header("traceparent", parent.clone())], Some(&body))
        .await
        .expect(201);
    let arrival = scene.receiver.nth(1).await;
    let sent = arrival.header("traceparent");
    assert!(sent.contains(trace), "a short delay continues the trace: `{sent}`");
    assert_ne!(sent, parent, "each attempt is a span of its own");
}

#[tokio::test]
async fn a_key_with_a_rate_limit_is_held_to_it_and_told_when() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let body = json!({ "name": "slow", "scopes": ["submit"], "rate_limit": { "count": 5, "per": "1m" } });
    let made = scene.api.post(&format!("/apps/{APP}/keys"), &body).await.expect(201);
    let limited = scene.api.with_key(made["key"].as_str().unwrap());
    let task = Task::of("work").delay("1h").json();
    let path = format!("/apps/{APP}/tasks");
    let mut refused = None;
    for _ in 0..6 {
        let answer = limited.post(&path, &task).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
        assert!(answer.header("ratelimit-policy").is_some(), "{:?}", answer.headers);
    }
    let refused = refused.expect("the sixth submit of a minute that allows five is refused");
    let wait: u64 = refused.header("retry-after").expect("it says when").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait} s");
    assert!(refused.header("ratelimit").is_some(), "{:?}", refused.headers);
    refused.refused(429, "rate_limited");
    scene.api.post(&path, &task).await.expect(201);
    let batch = json!({ "tasks": [task, task] });
    limited.post(&format!("{path}/batch"), &batch).await.refused(429, "rate_limited");
}

#[tokio::test]
async fn sizes_methods_and_media_types_are_minded() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let path = format!("/api/v1/apps/{APP}/tasks");
    let fits = Task::of("work").delay("1h").payload(json!("x".repeat(60_000))).json();
    scene.api.post(&format!("/apps/{APP}/tasks"), &fits).await.expect(201);
    let over = Task::of("work").delay("1h").payload(json!("x".repeat(70_000))).json();
    let refused = scene.api.post(&format!("/apps/{APP}/tasks"), &over).await;
    assert!([400, 413].contains(&refused.status), "{} {}", refused.status, refused.text);
    let flood = "x".repeat(18 << 20);
    let flooded = scene.api.try_send(Method::POST, &format!("{path}/batch"), &[], Some(flood.into())).await;
    // A server may close the connection before all of a hopeless body has been read.
    if let Ok(answer) = flooded {
        answer.refused(413, "too_large");
    }
    let text = [header("content-type", "text/plain")];
    raw(&scene.api, Method::POST, &path, &text, "{}").await.refused(415, "unsupported_media_type");
    raw(&scene.api, Method::POST, &path, &[], "{\"config\": ").await.refused(400, "invalid_json");
    raw(&scene.api, Method::POST, &path, &[], "").await.refused(400, "invalid_json");
    raw(&scene.api, Method::PUT, &path, &[], "{}").await.refused(405, "method_not_allowed");
    scene.api.get("/no/such/path").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_config_is_changed_only_by_who_has_seen_it() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let path = format!("/apps/{APP}/configs/work");
    let read = scene.api.get(&path).await;
    let etag = read.header("etag").expect("a config has an ETag").to_owned();
    let change = json!({ "description": "first" });
    let full = format!("/api/v1{path}");
    let with = |tag: &str| [header("if-match", tag)];
    let changed = scene.api.send(Method::PATCH, &full, &with(&etag), Some(&change)).await;
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    changed.expect(200);
    let stale = scene.api.send(Method::PATCH, &full, &with(&etag), Some(&change)).await;
    stale.refused(412, "version_mismatch");
    let rename = scene.api.patch(&path, &json!({ "name": "other" })).await;
    rename.refused(409, "immutable");
    scene.api.delete(&path).await.expect(204);
    scene.api.get(&path).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_disabled_config_refuses_submits_and_keeps_its_tasks() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let id = scene.submit(Task::of("work").delay("1h")).await;
    let path = format!("/apps/{APP}/configs/work");
    let disabled = scene.api.act(&format!("{path}/disable")).await.expect(200);
    assert_eq!(disabled["enabled"], false);
    let soon = json!({ "delay": "500ms" });
    scene.api.post(&format!("/tasks/{id}/postpone"), &soon).await.expect(200);
    let task = Task::of("work").json();
    scene.api.post(&format!("/apps/{APP}/tasks"), &task).await.refused(409, "config_disabled");
    scene.pass_sentinel(1_000).await;
    assert_eq!(scene.receiver.at("/work").len(), 0);
    scene.api.delete(&path).await.refused(409, "has_open_tasks");
    scene.api.delete(&format!("/apps/{APP}")).await.refused(409, "in_use");
    scene.api.act(&format!("{path}/enable")).await.expect(200);
    assert_eq!(scene.receiver.nth_at("/work", 1).await.task(), id);
}

#[tokio::test]
async fn the_service_tells_about_itself() {
    let scene = Scene::new().await;
    let open = scene.api.without_key();
    for path in ["/healthz", "/readyz", "/docs", "/api/v1/openapi.json"] {
        let answer = open.send(Method::GET, path, &[], None).await;
        assert!((200..400).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    }
    let document: Value = open.send(Method::GET, "/api/v1/openapi.json", &[], None).await.expect(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    assert_eq!(open.send(Method::GET, "/metrics", &[], None).await.status, 401);
    scene.delayed("work", |config| config).await;
    let id = scene.submit(Task::of("work")).await;
    scene.api.wait_for_end(&id, "succeeded").await;
    let names = [
        "tsp_lateness_seconds",
        "tsp_stage_seconds",
        "tsp_tasks_submitted_total",
        "tsp_tasks_ended_total",
        "tsp_attempts_total",
        "tsp_tasks_open",
        "tsp_tasks_overdue",
        "tsp_unaccounted",
        "tsp_shard_leases",
        "tsp_queue_depth",
        "tsp_store_seconds",
    ];
    let all = |metrics: &str| names.iter().all(|name| metrics.contains(name));
    scene.tsp.metrics_until(&format!("{names:?}"), all).await;
}
