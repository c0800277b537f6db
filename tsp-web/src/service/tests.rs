//! The service as a whole: what holds for every path.

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::testing::{BOOTSTRAP, Server};

#[tokio::test]
async fn health_and_readiness() {
    let server = Server::start().await;
    let get = |path| server.call_with(Method::GET, path, &[], Value::Null);
    assert_eq!(get("/healthz").await.expect(200), json!({"status": "ok"}));
    assert_eq!(get("/readyz").await.expect(200), json!({"status": "ready"}));
    server.is_missing(&["store", "fetcher"]);
    let waiting = get("/readyz").await;
    assert_eq!(waiting.refused(), (503, "unavailable".into()));
    assert_eq!(waiting.header("retry-after"), "1");
    assert_eq!(waiting.json()["detail"], "not ready: store, fetcher");
    assert_eq!(get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_need_a_global_key() {
    let server = Server::start().await;
    server.app("trade").await;
    let key = server.key("trade", &["admin"]).await;
    assert_eq!(server.call_with(Method::GET, "/metrics", &[], Value::Null).await.refused().0, 401);
    assert_eq!(server.call_as(&key, Method::GET, "/metrics", Value::Null).await.refused().0, 403);
    // The tests record none.
    assert_eq!(server.get("/metrics").await.refused().0, 404);
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_too() {
    let server = Server::start().await;
    assert_eq!(server.get("/api/v1/nothing").await.refused(), (404, "not_found".into()));
    let wrong = server.call(Method::DELETE, "/api/v1/apps", Value::Null).await;
    assert_eq!(wrong.refused(), (405, "method_not_allowed".into()));
    assert_eq!(wrong.header("allow"), "GET,HEAD,POST");
    assert_eq!(server.get("/dev/inbox").await.refused().0, 404);
    let unknown = server.call_with(Method::GET, "/api/v1/apps", &[], Value::Null).await;
    assert_eq!(unknown.refused(), (401, "unauthenticated".into()));
    let basic = [("authorization", "Basic Ym9vdA==")];
    assert_eq!(server.call_with(Method::GET, "/api/v1/apps", &basic, Value::Null).await.refused().0, 401);
}

#[tokio::test]
async fn request_ids_are_taken_over_if_they_are_sane() {
    let server = Server::start().await;
    for (given, taken) in [("abc-1", true), ("a b", false), ("", false), (&*"x".repeat(200), false)] {
        let answer = server.call_with(Method::GET, "/healthz", &[("x-request-id", given)], Value::Null).await;
        assert_eq!(answer.header("x-request-id") == given, taken, "{given}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn bodies_are_declared_and_bounded() {
    let server = Server::start().await;
    let post = |content_type: &str, body: String| {
        let request = Request::post("/api/v1/apps")
            .header("authorization", format!("Bearer {BOOTSTRAP}"))
            .header("content-type", content_type);
        server.send(request.body(body.into()).unwrap())
    };
    let refused = |answer: crate::testing::Answer| answer.refused();
    assert_eq!(refused(post("text/plain", "{}".into()).await), (415, "unsupported_media_type".into()));
    assert_eq!(refused(post("application/json", "{".into()).await), (400, "invalid_json".into()));
    assert_eq!(refused(post("application/json", "x".repeat(70_000)).await), (413, "too_large".into()));
}

#[tokio::test]
async fn a_development_server_trusts_loopback_only() {
    let server = Server::dev().await;
    let get = |headers: &'static [(&str, &str)]| {
        server.call_with(Method::GET, "/api/v1/apps", headers, Value::Null)
    };
    get(&[("host", "127.0.0.1:8080")]).await.expect(200);
    get(&[("host", "localhost"), ("origin", "http://localhost:8080")]).await.expect(200);
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "localhost"), ("origin", "http://evil.example")],
        &[("host", "localhost"), ("origin", "null")],
        &[],
    ] {
        let answer = server.call_with(Method::GET, "/api/v1/apps", headers, Value::Null).await;
        assert_eq!(answer.refused(), (403, "forbidden".into()), "{headers:?}");
    }
    assert_eq!(get(&[("host", "localhost"), ("authorization", "Bearer no")]).await.refused().0, 401);
}

#[tokio::test]
async fn a_development_server_has_a_clock_and_an_inbox() {
    let server = Server::dev().await;
    let local = [("host", "localhost"), ("tsp-task-id", "7")];
    let call = |method, path, body| server.call_with(method, path, &local[..1], body);
    let moved = call(Method::POST, "/api/v1/dev/clock", json!({"advance": "3d"})).await.expect(200);
    assert_eq!(moved, json!({"now": "2026-11-24T10:30:00.000Z", "fired": 7}));
    for body in [json!({}), json!({"advance": "0s"}), json!({"advance": "4000d"})] {
        assert_eq!(call(Method::POST, "/api/v1/dev/clock", body).await.fields(), ["advance"]);
    }
    for n in 0..101 {
        let path = format!("/dev/inbox?n={n}");
        server.call_with(Method::POST, &path, &local, json!({"n": n})).await.expect(204);
    }
    let kept = call(Method::GET, "/dev/inbox", Value::Null).await.expect(200);
    let items = kept["items"].as_array().unwrap();
    assert_eq!(
        (items.len(), &items[0]["body"], &items[0]["path"]),
        (100, &json!({"n": 100}), &"/dev/inbox?n=100".into())
    );
    assert_eq!(items[0]["headers"]["tsp-task-id"], "7");
    assert_eq!(
        server.call_with(Method::GET, "/dev/inbox", &[("host", "x.example")], Value::Null).await.refused().0,
        403
    );
}

#[tokio::test]
async fn no_page_in_a_browser_sees_or_plays_the_inbox_and_the_metrics() {
    let server = Server::dev().await;
    let send =
        |method, path, headers: &'static [(&str, &str)]| server.call_with(method, path, headers, Value::Null);
    for headers in [
        &[("host", "rebound.example"), ("tsp-task-id", "7")][..],
        &[("host", "localhost"), ("origin", "http://evil.example"), ("tsp-task-id", "7")],
        &[("host", "localhost"), ("origin", "null"), ("tsp-task-id", "7")],
    ] {
        for (method, path) in [
            (Method::POST, "/dev/inbox"),
            (Method::GET, "/dev/inbox"),
            (Method::PUT, "/dev/inbox/deeper"),
            (Method::GET, "/metrics"),
        ] {
            let answer = send(method.clone(), path, headers).await;
            assert_eq!(answer.refused(), (403, "forbidden".into()), "{method} {path} {headers:?}");
        }
    }
    let shown = send(Method::GET, "/dev/inbox", &[("host", "localhost")]).await.expect(200);
    assert_eq!(shown["items"], json!([]));
    assert_eq!(send(Method::GET, "/metrics", &[("host", "localhost")]).await.refused().0, 404, "no recorder");
}

/// A body that is read although its sender may not send it fills the memory with what is then refused.
#[tokio::test]
async fn nothing_of_a_body_is_read_before_the_right_to_send_it_is_known() {
    // Whoever has a valid key may ask for a preview; of a receiver nothing is known but the token in its body.
    const FOR_ANYBODY: [&str; 3] = ["preview_schedule", "complete_task", "report_progress"];
    let server = Server::start().await;
    server.app("trade").await;
    server.post("/api/v1/apps/trade/configs", crate::testing::delayed("c")).await.expect(201);
    let made =
        server.post("/api/v1/apps/trade/tasks", json!({"config": "c", "key": "k", "delay": "1h"})).await;
    let id = made.expect(201)["task"]["id"].as_str().unwrap().to_owned();
    let reader = server.key("trade", &["read"]).await;
    let mut operations = 0;
    for (path, methods) in crate::openapi_document()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            if operation.get("requestBody").is_none() || FOR_ANYBODY.contains(&name) {
                continue;
            }
            let path = path.replace("{app}", "trade").replace("{config}", "c").replace("{key}", "k");
            let path = path.replace("{id}", &id);
            for key in ["no key of ours", &reader] {
                let body = futures::stream::poll_fn(|_| -> std::task::Poll<Option<std::io::Result<Bytes>>> {
                    panic!("it was read")
                });
                let request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(&path)
                    .header("authorization", format!("Bearer {key}"))
                    .header("content-type", "application/json");
                let answer = server.send(request.body(Body::from_stream(body)).unwrap()).await;
                let status = if key == reader { 403 } else { 401 };
                assert_eq!(answer.refused().0, status, "{method} {path}");
            }
            operations += 1;
        }
    }
    assert!(operations > 20, "{operations}");
}

#[tokio::test]
async fn the_documents_are_served_without_a_key() {
    let server = Server::start().await;
    let get = async |path: &str| server.call_with(Method::GET, path, &[], Value::Null).await;
    let page = get("/docs/errors/not_found").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/markdown; charset=utf-8"));
    assert_eq!(get("/docs/errors/nothing").await.refused().0, 404);
    let docs = get("/docs/").await;
    assert_eq!(docs.status, 200);
    assert!(docs.header("content-type").starts_with("text/html"));
    assert!(get("/docs").await.status.is_redirection());
    for (file, content_type) in [
        ("index.html", "text/html"),
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("favicon-16x16.png", "image/png"),
    ] {
        let answer = get(&format!("/docs/{file}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, content_type));
    }
    assert_eq!(get("/docs/nothing.js").await.refused().0, 404);
    assert_eq!(get("/api/v1/openapi.json").await.json()["openapi"], "3.1.0");
}
