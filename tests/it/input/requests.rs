//! Every field of the other requests, and queries, paths and targets.

use serde_json::{Value, json};

use super::{Case, Kind, cases, check, put};
use crate::harness::{APP, Reply, Scene, Task, in_days};

#[tokio::test]
async fn every_field_of_a_submit() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let execute_at = in_days(20).replace('Z', "+08:00");
    let valid = json!({
        "config": "work", "key": "order-42", "execute_at": execute_at, "payload": { "order": 42 },
        "on_duplicate_key": "add", "headers": { "X-Shop": "7" }, "expire_after": "1d",
        "retry": { "max_attempts": 3, "jitter": 0.2 },
    });
    scene.api.post(&format!("/apps/{APP}/tasks"), &valid).await.expect(201);
    let fields = [
        ("config", Kind::Name),
        ("key", Kind::Text(200)),
        ("execute_at", Kind::Time),
        ("on_duplicate_key", Kind::OneOf),
        ("headers", Kind::Headers),
        ("expire_after", Kind::Duration),
        ("retry", Kind::Object),
        ("retry.max_attempts", Kind::Count(None)),
        ("retry.jitter", Kind::Share),
        ("payload", Kind::Any),
    ];
    let mut all = cases(&valid, &fields, &["config"]);
    let mut with = |field: &str, value: Value| {
        let mut body = valid.clone();
        put(&mut body, field, value);
        all.push(Case { field: field.to_owned(), body });
    };
    with("key", json!(""));
    with("key", json!("a\u{0}b"));
    with("key", json!("."));
    with("key", json!(".."));
    with("delay", json!("5s"));
    // A name that cannot be is as good as one that is not there.
    all.retain(|case| case.field != "config" || !case.body["config"].is_string());
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/tasks"), all).await;
    let mut delayed = valid.clone();
    delayed["execute_at"] = Value::Null;
    let all = cases(&delayed, &[("delay", Kind::Duration)], &[]);
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/tasks"), all).await;
    scene
        .api
        .post(&format!("/apps/{APP}/tasks"), &json!({ "config": "none" }))
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn every_field_of_the_other_requests() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let id = scene.submit(Task::of("work").key("order-1").delay("5h")).await;
    let app = json!({ "name": "valid", "description": "d", "owner": "o" });
    let fields = [("name", Kind::Name), ("description", Kind::Text(10_000)), ("owner", Kind::Text(10_000))];
    check(&scene.api, reqwest::Method::POST, "/apps", cases(&app, &fields, &["name"])).await;

    let key = json!({ "name": "valid", "scopes": ["read"], "expires_at": in_days(20) });
    let fields = [("name", Kind::Text(1_000)), ("scopes", Kind::List), ("expires_at", Kind::Time)];
    let mut all = cases(&key, &fields, &["name", "scopes"]);
    for scopes in [json!([]), json!(["everything"]), json!([1])] {
        let mut body = key.clone();
        body["scopes"] = scopes;
        all.push(Case { field: "scopes".to_owned(), body });
    }
    // Only promises may not lie too far ahead.
    all.retain(|case| case.body["expires_at"] != "2999-01-01T00:00:00Z");
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/keys"), all).await;

    let postpone = json!({ "delay": "1h" });
    let mut all = cases(&postpone, &[("delay", Kind::Duration)], &[]);
    all.push(Case { field: "execute_at".to_owned(), body: json!({ "execute_at": "tomorrow" }) });
    check(&scene.api, reqwest::Method::POST, &format!("/tasks/{id}/postpone"), all).await;
    let path = format!("/apps/{APP}/configs/work/keys/order-1/postpone");
    check(&scene.api, reqwest::Method::POST, &path, cases(&postpone, &[("delay", Kind::Duration)], &[]))
        .await;

    let preview = json!({ "schedule": { "type": "every", "interval": "5s" }, "count": 3 });
    let fields = [
        ("schedule", Kind::Object),
        ("schedule.interval", Kind::Duration),
        ("count", Kind::Count(Some(100))),
    ];
    let all = cases(&preview, &fields, &["schedule"]);
    check(&scene.api, reqwest::Method::POST, "/schedules/preview", all).await;
}

#[tokio::test]
async fn queries_and_paths() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let tasks = format!("/apps/{APP}/tasks");
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "state=none-such",
        "status=7",
        "result=none-such",
        "order=sideways",
        "due_from=tomorrow",
        "created_to=x",
        "no_such=1",
        "parent_id=x",
        "include=everything",
        "limit=1&limit=2",
    ] {
        let answer = scene.api.get(&format!("{tasks}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let name = query.split('=').next().unwrap();
        let problem = answer.json();
        assert_eq!(problem["code"], "invalid_query", "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], name, "{query}: {problem}");
    }
    for cursor in ["x", "AAAA", "%00", "eyJhIjoxfQ"] {
        scene.api.get(&format!("{tasks}?cursor={cursor}")).await.refused(400, "invalid_cursor");
    }
    for path in
        ["/tasks/x", "/tasks/-1", "/tasks/0", "/tasks/99999999999999999999", "/apps/UPPER", "/apps/%00"]
    {
        let answer = scene.api.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn targets_in_refused_networks_are_refused_at_once() {
    let scene =
        Scene::with(crate::harness::Tsp::settings().set("worker.http.allow_networks", "127.0.0.0/8")).await;
    for url in [
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://[64:ff9b::a00:1]/",
        "http://172.16.0.1/",
        "http://100.64.0.1/",
    ] {
        let body = json!({ "name": "denied", "kind": "delayed", "target": { "type": "http", "url": url } });
        let answer = scene.api.post(&format!("/apps/{APP}/configs"), &body).await;
        answer.refused(400, "egress_denied");
    }
}

#[tokio::test]
async fn every_field_of_what_a_receiver_says() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config.set("async", json!({ "enabled": true, "deadline": "15m" }))).await;
    scene.receiver.always("/work", Reply::status(202));
    let id = scene.submit(Task::of("work")).await;
    let token = scene.receiver.nth(1).await.header("tsp-completion-token").to_owned();
    scene.api.wait_for(&id, "awaiting").await;
    let caller = scene.api.without_key();

    let complete = json!({ "token": token, "result": "retry", "after": "5s", "message": "m" });
    let fields = [("result", Kind::OneOf), ("after", Kind::Duration), ("message", Kind::Text(10_000))];
    let mut all = cases(&complete, &fields, &["token", "result"]);
    let mut after_done = complete.clone();
    after_done["result"] = json!("done");
    all.push(Case { field: "after".to_owned(), body: after_done });
    check(&caller, reqwest::Method::POST, &format!("/tasks/{id}/complete"), all).await;

    let progress = json!({ "token": token, "percent": 5, "message": "m", "extend": "5s" });
    let fields =
        [("percent", Kind::Count(Some(100))), ("message", Kind::Text(10_000)), ("extend", Kind::Duration)];
    let all = cases(&progress, &fields, &["token"]);
    check(&caller, reqwest::Method::POST, &format!("/tasks/{id}/progress"), all).await;
    assert_eq!(scene.api.task(&id).await["state"], "awaiting", "a refused document changed something");
}

#[tokio::test]
async fn every_field_of_changes_and_envelopes() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let app = json!({ "description": "d", "owner": "o" });
    let fields = [("description", Kind::Text(10_000)), ("owner", Kind::Text(10_000))];
    check(&scene.api, reqwest::Method::PATCH, &format!("/apps/{APP}"), cases(&app, &fields, &[])).await;

    let config = format!("/apps/{APP}/configs/work");
    let note = json!({ "note": "release" });
    let all = || cases(&note, &[("note", Kind::Text(10_000))], &[]);
    for verb in ["pause", "resume", "enable", "disable"] {
        check(&scene.api, reqwest::Method::POST, &format!("{config}/{verb}"), all()).await;
    }
    let run = json!({ "payload": 1 });
    check(&scene.api, reqwest::Method::POST, &format!("{config}/run"), cases(&run, &[], &[])).await;

    let batch = json!({ "tasks": [{ "config": "work", "delay": "1h" }] });
    let mut all = cases(&batch, &[("tasks", Kind::List)], &["tasks"]);
    all.push(Case { field: "tasks".to_owned(), body: json!({ "tasks": [] }) });
    let many = vec![json!({ "config": "work", "delay": "1h" }); 1_001];
    all.push(Case { field: "tasks".to_owned(), body: json!({ "tasks": many }) });
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/tasks/batch"), all).await;
    let left = scene.api.get(&format!("/apps/{APP}/tasks")).await.expect(200);
    assert_eq!(
        left["items"].as_array().map(Vec::len),
        Some(0),
        "a refused document left something: {left:#}"
    );
}
