//! `PUT /apps/{app}/configs/{config}`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::cluster::PendingChange;
use tsp_api::config as wire;
use tsp_store::catalog::Scope;

use super::precondition::Precondition;
use super::save::{Change, Draft, read_dry_run};
use super::wire::{Source, leave_secrets_behind, read_document};
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// Create or replace a config
///
/// What is absent gets its default. Write-only fields that are left out stay as they are; only secret headers do not
/// follow the URL to another origin: then the answer has a `notice`.
#[utoipa::path(
    put, path = "/apps/{app}/configs/{config}", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "Checks and answers as ever, and changes nothing: no version, no line in the audit log, nothing kept under an idempotency key."),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is replaced."),
    ),
    request_body = wire::ReplacedConfig,
    responses(
        (status = 200, description = "Replaced.", body = wire::Config, headers(("ETag" = String, description = "Its version."))),
        (status = 201, description = "Created.", body = wire::Config,
            headers(("Location" = String, description = "Its path."), ("ETag" = String, description = "Its version."))),
        (status = 202, description = "Replaced; `group`, `span` or `enabled` is new, and some node has not applied it within five seconds.",
            body = PendingChange),
        (status = 409, description = "`name` or `kind` would change, or `span` while tasks are open."),
        (status = 412, description = "The config has another version."),
    )
)]
pub(super) async fn replace_config(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, config)): Path<(String, String)>,
    mut query: Query,
    precondition: Precondition,
    body: UnreadBody,
) -> ApiResult {
    let app = lookup::app(&state, &caller, &app, &[Scope::Manage]).await?;
    let dry_run = read_dry_run(&mut query);
    query.finish()?;
    let body = read_document(body.raw_json().await?)?;
    let change = Change { state: &state, caller: &caller, app: &app, name: &config, precondition, dry_run };
    change
        .save(
            |found| {
                let (mut doc, errors) = (body.value.clone(), body.errors.clone());
                let left_behind = leave_secrets_behind(&mut doc, found);
                Ok(Draft { doc, errors, left_behind })
            },
            |found| found.map_or(Source::New, Source::Replacing),
        )
        .await
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{Answer, BOOTSTRAP, Server, cron, delayed};

    const CONFIG: &str = "/api/v1/apps/trade/configs/c";

    async fn put_if(server: &Server, header: &str, tag: &str, body: Value) -> Answer {
        let auth = format!("Bearer {BOOTSTRAP}");
        server.call_with(Method::PUT, CONFIG, &[("authorization", &auth), (header, tag)], body).await
    }

    #[tokio::test]
    async fn creates_then_replaces() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut body = delayed("c");
        body.as_object_mut().unwrap().remove("name");
        body["priority"] = 4.into();
        let made = server.call(Method::PUT, CONFIG, body.clone()).await;
        assert_eq!((made.status.as_u16(), made.header("location")), (201, CONFIG));
        body["priority"] = Value::Null;
        let replaced = server.call(Method::PUT, CONFIG, body).await;
        assert_eq!(replaced.header("etag"), "\"2\"");
        assert_eq!(replaced.expect(200)["priority"], 2);
        assert_eq!(server.told(), 2);
    }

    #[tokio::test]
    async fn versions_are_compared() {
        let server = Server::start().await;
        server.app("trade").await;
        let mismatch = (412, "version_mismatch".to_owned());
        assert_eq!(put_if(&server, "if-match", "\"1\"", delayed("c")).await.refused(), mismatch);
        put_if(&server, "if-none-match", "*", delayed("c")).await.expect(201);
        assert_eq!(put_if(&server, "if-none-match", "*", delayed("c")).await.refused(), mismatch);
        put_if(&server, "if-match", "\"9\", \"1\"", delayed("c")).await.expect(200);
        assert_eq!(put_if(&server, "if-match", "\"1\"", delayed("c")).await.refused(), mismatch);
        assert_eq!(put_if(&server, "if-match", "W/\"2\"", delayed("c")).await.refused(), mismatch);
        put_if(&server, "if-match", "*", delayed("c")).await.expect(200);
    }

    #[tokio::test]
    async fn name_and_kind_never_change() {
        let server = Server::start().await;
        server.app("trade").await;
        server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
        for (body, field) in [(delayed("d"), "name"), (cron("c"), "kind")] {
            let answer = server.call(Method::PUT, CONFIG, body).await;
            assert_eq!((answer.refused().1, answer.fields()), ("immutable".into(), vec![field.to_owned()]));
        }
    }

    #[tokio::test]
    async fn secrets_left_out_stay_and_empty_ones_go() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut body = delayed("c");
        body["target"]["secret_headers"] = json!({"X-Token": "s"});
        body["signing_secrets"] = json!([format!("whsec_{}", "A".repeat(32))]);
        server.call(Method::PUT, CONFIG, body).await.expect(201);
        let kept = server.call(Method::PUT, CONFIG, delayed("c")).await.expect(200);
        assert_eq!(
            (&kept["signing_secret_count"], &kept["secret_header_names"]),
            (&json!(1), &json!(["X-Token"]))
        );
        let mut empty = delayed("c");
        empty["target"]["secret_headers"] = json!({});
        empty["signing_secrets"] = json!([]);
        let gone = server.call(Method::PUT, CONFIG, empty).await.expect(200);
        assert_eq!((&gone["signing_secret_count"], &gone["secret_header_names"]), (&json!(0), &json!([])));
    }

    #[tokio::test]
    async fn secret_headers_do_not_follow_to_another_origin() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut body = delayed("c");
        body["target"]["secret_headers"] = json!({"Authorization": "s", "X-Token": "t"});
        body["signing_secrets"] = json!([format!("whsec_{}", "A".repeat(32))]);
        server.call(Method::PUT, CONFIG, body.clone()).await.expect(201);
        let to = |url: &str| {
            let mut body = delayed("c");
            body["target"]["url"] = url.into();
            body
        };
        for same in ["http://orders.internal:80/other?x=1", "HTTP://ORDERS.internal/close"] {
            let kept = server.call(Method::PUT, CONFIG, to(same)).await.expect(200);
            assert_eq!(kept["secret_header_names"], json!(["Authorization", "X-Token"]), "{same}");
            assert_eq!(kept.get("notice"), None);
        }
        for other in ["http://orders.internal:8081/", "https://orders.internal/", "http://evil.example/"] {
            let moved = server.call(Method::PUT, CONFIG, to(other)).await.expect(200);
            assert_eq!(moved["secret_header_names"], json!([]), "{other}");
            assert_eq!(moved["signing_secret_count"], 1, "they are never sent");
            assert_eq!(moved["notice"]["code"], "secret_headers_dropped");
            assert_eq!(moved["notice"]["names"], json!(["Authorization", "X-Token"]));
            let shown = server.get(CONFIG).await.expect(200);
            assert_eq!((shown.get("notice"), &shown["secret_header_names"]), (None, &json!([])));
            // What was shown can be sent back.
            assert_eq!(server.call(Method::PUT, CONFIG, moved).await.expect(200).get("notice"), None);
            let given = server.call(Method::PUT, CONFIG, body.clone()).await.expect(200);
            assert_eq!(
                (given.get("notice"), &given["secret_header_names"][0]),
                (None, &json!("Authorization"))
            );
        }
    }

    #[tokio::test]
    async fn span_is_fixed_while_tasks_are_open() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut body = delayed("c");
        server.call(Method::PUT, CONFIG, body.clone()).await.expect(201);
        body["span"] = 0.into();
        server.call(Method::PUT, CONFIG, body.clone()).await.expect(200);
        server.post("/api/v1/apps/trade/tasks", json!({"config": "c", "delay": "1h"})).await.expect(201);
        body["span"] = 2.into();
        assert_eq!(server.call(Method::PUT, CONFIG, body).await.refused(), (409, "has_open_tasks".into()));
    }

    #[tokio::test]
    async fn needs_manage_on_its_own_app() {
        let server = Server::start().await;
        server.app("trade").await;
        server.app("other").await;
        for (app, scope, status) in
            [("trade", "manage", 201), ("trade", "submit", 403), ("other", "admin", 404)]
        {
            let key = server.key(app, &[scope]).await;
            let answer = server.call_as(&key, Method::PUT, CONFIG, delayed("c")).await;
            assert_eq!(answer.status, status, "{app} {scope}");
        }
    }
}
