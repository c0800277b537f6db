//! `?dry_run=true` of the calls that change configs.

use http::Method;
use serde_json::{Value, json};
use tsp_store::AuditLog as _;

use crate::testing::{Answer, BOOTSTRAP, Server, cron, delayed};

const CONFIGS: &str = "/api/v1/apps/trade/configs";
const CONFIG: &str = "/api/v1/apps/trade/configs/c";
const DRY: &str = "dry_run=true";

async fn start() -> Server {
    let server = Server::start().await;
    server.app("trade").await;
    server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
    server.told();
    server
}

/// The call, first dry and then in earnest: the same answer, and nothing was changed by the first.
async fn alike(server: &Server, method: Method, path: &str, body: Value) -> Answer {
    let before = seen(server).await;
    let joint = if path.contains('?') { '&' } else { '?' };
    let dry = server.call(method.clone(), &format!("{path}{joint}{DRY}"), body.clone()).await;
    assert_eq!(seen(server).await, before, "{path} {body}");
    assert_eq!(server.told(), 0);
    let done = server.call(method, path, body).await;
    assert_eq!(dry.status, done.status, "{:?} {:?}", dry.body, done.body);
    assert_eq!((dry.header("etag"), dry.header("location")), (done.header("etag"), done.header("location")));
    if done.status.is_success() {
        assert_eq!(dry.body, done.body);
    } else {
        assert_eq!((dry.refused(), dry.fields()), (done.refused(), done.fields()));
    }
    server.told();
    dry
}

/// All configs, and how long the audit log is.
async fn seen(server: &Server) -> (Value, usize) {
    let configs = server.get(CONFIGS).await.expect(200);
    (configs, server.store.inner.audit_log(1_000).await.unwrap().len())
}

#[tokio::test]
async fn answers_as_the_call_itself_and_changes_nothing() {
    let server = start().await;
    let mut other = delayed("c");
    other["priority"] = 4.into();
    other["payload"] = json!({"n": 1});
    let mut bad = cron("n");
    bad["schedule"]["expr"] = "61 * * * * ?".into();
    bad["retries"] = 3.into();
    for (method, path, body, status) in [
        (Method::POST, CONFIGS, cron("nightly"), 201),
        (Method::POST, CONFIGS, delayed("c"), 409),
        (Method::POST, CONFIGS, bad.clone(), 400),
        (Method::PUT, "/api/v1/apps/trade/configs/new", delayed("new"), 201),
        (Method::PUT, CONFIG, other.clone(), 200),
        (Method::PUT, CONFIG, delayed("d"), 409),
        (Method::PUT, CONFIG, cron("c"), 409),
        (Method::PUT, "/api/v1/apps/trade/configs/n", bad, 400),
        (Method::PATCH, CONFIG, json!({"priority": 1, "payload": null}), 200),
        (Method::PATCH, CONFIG, json!({"retry": {"max_attempts": 0}}), 400),
        (Method::PATCH, "/api/v1/apps/trade/configs/none", json!({}), 404),
        (Method::DELETE, "/api/v1/apps/trade/configs/none", Value::Null, 404),
        (Method::DELETE, "/api/v1/apps/trade/configs/nightly", Value::Null, 204),
    ] {
        assert_eq!(alike(&server, method, path, body.clone()).await.status, status, "{path} {body}");
    }
}

#[tokio::test]
async fn open_tasks_and_versions_are_looked_at() {
    let server = start().await;
    server.post("/api/v1/apps/trade/tasks", json!({"config": "c", "delay": "1h"})).await.expect(201);
    assert_eq!(alike(&server, Method::PATCH, CONFIG, json!({"span": 2})).await.fields(), ["span"]);
    assert_eq!(alike(&server, Method::DELETE, CONFIG, Value::Null).await.status, 409);
    let auth = format!("Bearer {BOOTSTRAP}");
    let headers = [("authorization", auth.as_str()), ("if-match", "\"7\"")];
    let stale = server.call_with(Method::PUT, &format!("{CONFIG}?{DRY}"), &headers, delayed("c")).await;
    assert_eq!(stale.refused().0, 412);
    assert_eq!(
        alike(&server, Method::DELETE, &format!("{CONFIG}?cancel_open=true"), Value::Null).await.status,
        204
    );
}

#[tokio::test]
async fn an_idempotency_key_stays_free() {
    let server = start().await;
    let auth = format!("Bearer {BOOTSTRAP}");
    let headers = [("authorization", auth.as_str()), ("idempotency-key", "k")];
    let post = async |query: &str, body| {
        server.call_with(Method::POST, &format!("{CONFIGS}{query}"), &headers, body).await
    };
    post("?dry_run=true", delayed("x")).await.expect(201);
    // Neither kept nor compared.
    post("?dry_run=true", delayed("y")).await.expect(201);
    let made = post("", delayed("z")).await;
    assert_eq!((made.status.as_u16(), made.header("idempotency-replayed")), (201, ""));
    assert_eq!(post("?dry_run=true", delayed("z")).await.refused(), (409, "already_exists".into()));
    assert_eq!(post("?dry_run=perhaps", delayed("z")).await.refused(), (400, "invalid_query".into()));
}

#[tokio::test]
async fn rights_are_those_of_the_call() {
    let server = start().await;
    let reader = server.key("trade", &["read"]).await;
    let manager = server.key("trade", &["manage"]).await;
    let path = format!("{CONFIGS}?{DRY}");
    assert_eq!(server.call_as(&reader, Method::POST, &path, delayed("x")).await.refused().0, 403);
    server.call_as(&manager, Method::POST, &path, delayed("x")).await.expect(201);

    // Of an app that is not there yet, for who may make it.
    let new = "/api/v1/apps/new/configs";
    assert_eq!(server.post(&format!("{new}?{DRY}"), delayed("x")).await.refused().0, 404);
    assert_eq!(server.post(&format!("{new}?assume_app=true"), delayed("x")).await.refused().0, 404);
    let assumed = format!("{new}?{DRY}&assume_app=true");
    assert_eq!(server.post(&assumed, delayed("x")).await.expect(201)["app"], "new");
    assert_eq!(server.call_as(&manager, Method::POST, &assumed, delayed("x")).await.refused().0, 404);
    assert_eq!(server.get("/api/v1/apps/new").await.refused().0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_at_once_are_all_made() {
    let server = std::sync::Arc::new(start().await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..6 {
        let server = server.clone();
        callers.spawn(async move {
            for turn in 0..80 {
                let body = json!({"labels": {format!("c{caller}"): turn.to_string()}});
                server.call(Method::PATCH, CONFIG, body).await.expect(200);
            }
        });
    }
    callers.join_all().await;
    let config = server.get(CONFIG).await.expect(200);
    assert_eq!((&config["version"], config["labels"].as_object().unwrap().len()), (&json!(481), 6));
}
