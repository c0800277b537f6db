//! Changes of configs in a cluster whose slowest node is late. The clock of tokio is paused: it moves on by
//! itself when everybody waits.

use std::cell::Cell;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout};
use tsp_store::Catalog as _;
use tsp_store::catalog::Hold;
use tsp_store::tasks::Actor;

use crate::testing::{Answer, BOOTSTRAP, NOW, Server, delayed};

const CONFIG: &str = "/api/v1/apps/trade/configs/c";

/// A config of version 1, on a cluster where nobody has applied anything yet.
async fn start() -> Server {
    let server = Server::start().await;
    server.app("trade").await;
    server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
    server.store.set_applied(0);
    server
}

async fn patch(server: &Server, body: Value) -> Answer {
    server.call(Method::PATCH, CONFIG, body).await
}

async fn delete(server: &Server, query: &str) -> Answer {
    server.call(Method::DELETE, &format!("{CONFIG}{query}"), Value::Null).await
}

/// `call`, while the slowest node does in turn what is in `steps` each time that it is waited for.
async fn meanwhile<const N: usize>(
    server: &Server,
    call: impl Future<Output = Answer>,
    steps: [&dyn Fn(&Server); N],
) -> Answer {
    let done = Cell::new(0);
    let node = async {
        for step in steps {
            server.store.asked().await;
            step(server);
            done.set(done.get() + 1);
        }
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = call => answer,
        answer = node => answer,
    };
    assert_eq!(done.get(), N, "{:?}", answer.body);
    answer
}

fn catches_up(server: &Server) {
    server.store.catch_up();
}

async fn config(server: &Server) -> (i64, bool, i64) {
    let config = server.get(CONFIG).await.expect(200);
    let number = |name: &str| config[name].as_i64().unwrap();
    (number("version"), config["enabled"] == true, number("span"))
}

async fn submit(server: &Server) -> Value {
    let body = json!({"config": "c", "delay": "1h"});
    server.post("/api/v1/apps/trade/tasks", body).await.expect(201)["task"]["id"].clone()
}

#[tokio::test(start_paused = true)]
async fn holds_wait_for_the_slowest_node_but_not_for_ever() {
    let server = start().await;
    for verb in ["pause", "resume", "disable", "enable"] {
        let path = format!("{CONFIG}/{verb}");
        let done = meanwhile(&server, server.post(&path, Value::Null), [&catches_up]).await.expect(200);
        let started = Instant::now();
        let late = server.post(&path, Value::Null).await.expect(202);
        assert_eq!(late, json!({"config_seq": done["version"].as_i64().unwrap() + 1}), "{verb}");
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        server.store.asked().await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_other_changes_only_some_wait() {
    let server = start().await;
    patch(&server, json!({"description": "x", "priority": 1})).await.expect(200);
    assert_eq!(patch(&server, json!({"enabled": false})).await.status, 202);
    // Saved all the same, so a repeat changes nothing that matters.
    assert_eq!(patch(&server, json!({"enabled": false})).await.expect(200)["enabled"], false);
}

#[tokio::test(start_paused = true)]
async fn a_span_changes_while_no_node_takes_submits() {
    let server = start().await;
    let closed = |server: &Server| {
        let config = &server.store.config_cache().all_configs()[0];
        assert!(!config.spec.enabled && config.spec.span == 1);
        server.store.catch_up();
    };
    let open = |server: &Server| {
        let config = &server.store.config_cache().all_configs()[0];
        assert!(config.spec.enabled && config.spec.span == 2);
        server.store.catch_up();
    };
    let call = patch(&server, json!({"span": 2}));
    assert_eq!(meanwhile(&server, call, [&closed, &open]).await.expect(200)["version"], 3);
    assert_eq!(config(&server).await, (3, true, 2));

    // The slowest node knows that the config is closed, and then no more.
    let call = patch(&server, json!({"span": 3}));
    let late = meanwhile(&server, call, [&catches_up]).await.expect(202);
    assert_eq!(late["config_seq"], server.store.config_cache().seq());
    assert_eq!(config(&server).await, (5, true, 3));

    // It does not even know that.
    let refused = patch(&server, json!({"span": 4})).await;
    assert_eq!((refused.refused(), refused.header("retry-after")), ((503, "unavailable".into()), "5"));
    assert_eq!(config(&server).await, (7, true, 3), "closed and opened again");
}

#[tokio::test(start_paused = true)]
async fn a_span_stays_while_a_task_is_open() {
    let server = start().await;
    let id = submit(&server).await;
    let task = |verb: &str| format!("/api/v1/tasks/{}/{verb}", id.as_str().unwrap());
    let refused = (409, "has_open_tasks".to_owned());
    assert_eq!(patch(&server, json!({"span": 2})).await.refused(), refused);
    assert_eq!(config(&server).await, (1, true, 1), "it was not closed in vain");

    // One that opens in the last moment, by a node that did not know yet.
    server.post(&task("cancel"), Value::Null).await.expect(200);
    let replay = async {
        server.store.asked().await;
        let late = server.post(&task("replay"), Value::Null).await;
        assert_eq!(late.refused(), (409, "config_disabled".to_owned()));
        server.store.replay_unaware(id.as_str().unwrap().parse().unwrap(), NOW).await;
        server.store.catch_up();
    };
    let (answer, ()) = tokio::join!(patch(&server, json!({"span": 2})), replay);
    assert_eq!(answer.refused(), refused);
    assert_eq!(config(&server).await, (3, true, 1));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_change_meanwhile_is_not_overwritten() {
    let server = start().await;
    let other = async {
        server.store.asked().await;
        patch(&server, json!({"description": "theirs"})).await.expect(200);
        server.store.catch_up();
        // The change is worked out again, upon theirs.
        server.store.asked().await;
        server.store.catch_up();
    };
    let (answer, ()) = tokio::join!(patch(&server, json!({"span": 2})), other);
    assert_eq!(answer.status, 202);
    let seen = server.get(CONFIG).await.expect(200);
    assert_eq!((&seen["description"], &seen["span"]), (&json!("theirs"), &json!(2)));

    server.store.asked().await;
    server.store.catch_up();
    let auth = format!("Bearer {BOOTSTRAP}");
    let tag = format!("\"{}\"", seen["version"]);
    let headers = [("authorization", auth.as_str()), ("if-match", tag.as_str())];
    let other = async {
        server.store.asked().await;
        patch(&server, json!({"description": "again"})).await.expect(200);
        server.store.catch_up();
    };
    let call = server.call_with(Method::PATCH, CONFIG, &headers, json!({"span": 3}));
    let (answer, ()) = tokio::join!(call, other);
    assert_eq!(answer.refused(), (412, "version_mismatch".to_owned()));
    assert!(config(&server).await.1, "opened again");

    // Who disables it himself meanwhile means it.
    let id = server.store.config_cache().all_configs()[0].id;
    let other = async {
        server.store.asked().await;
        server.store.hold_config(id, Hold::Disable, &Actor::system(), NOW).await.unwrap();
        server.store.catch_up();
    };
    let (answer, ()) = tokio::join!(patch(&server, json!({"span": 3})), other);
    assert_eq!(answer.status, 202);
    assert_eq!((config(&server).await.1, config(&server).await.2), (false, 3));
}

#[tokio::test(start_paused = true)]
async fn a_config_is_deleted_while_no_node_takes_submits() {
    let server = start().await;
    let closed = |server: &Server| {
        assert!(!server.store.config_cache().all_configs()[0].spec.enabled);
        server.store.catch_up();
    };
    let refused = delete(&server, "").await;
    assert_eq!(refused.refused(), (503, "unavailable".into()));
    assert_eq!(config(&server).await, (3, true, 1));
    server.store.asked().await;

    submit(&server).await;
    assert_eq!(delete(&server, "").await.refused(), (409, "has_open_tasks".into()));
    assert_eq!(config(&server).await, (3, true, 1), "it was not closed in vain");
    let gone = |server: &Server| {
        assert!(server.store.config_cache().all_configs().is_empty());
        server.store.catch_up();
    };
    let deleted = meanwhile(&server, delete(&server, "?cancel_open=true"), [&closed, &gone]).await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));

    server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
    let late = meanwhile(&server, delete(&server, ""), [&closed]).await.expect(202);
    assert_eq!(late["config_seq"], server.store.config_cache().seq());
    assert_eq!(server.get(CONFIG).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn only_the_expected_version_is_deleted() {
    let server = start().await;
    let auth = format!("Bearer {BOOTSTRAP}");
    let call = |tag: &'static str| {
        let headers = [("authorization", auth.clone()), ("if-match", tag.to_owned())];
        let server = &server;
        async move {
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            server.call_with(Method::DELETE, CONFIG, &headers, Value::Null).await
        }
    };
    let other = async {
        server.store.asked().await;
        patch(&server, json!({"description": "theirs"})).await.expect(200);
        server.store.catch_up();
    };
    let (answer, ()) = tokio::join!(call("\"1\""), other);
    assert_eq!(answer.refused(), (412, "version_mismatch".to_owned()));
    assert_eq!(config(&server).await, (4, true, 1), "opened again");
    let deleted = meanwhile(&server, call("\"4\""), [&catches_up, &catches_up]).await;
    assert_eq!(deleted.status, 204);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_leaves_nothing_half_done() {
    let server = start().await;
    let call = timeout(Duration::from_secs(1), patch(&server, json!({"span": 2})));
    assert!(call.await.is_err());
    assert_eq!(config(&server).await, (2, false, 1));
    server.state.to_the_end.close();
    server.state.to_the_end.wait().await;
    assert_eq!(config(&server).await, (3, true, 1), "nobody else knew that it was closed");
}
