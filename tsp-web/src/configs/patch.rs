//! `PATCH /apps/{app}/configs/{config}`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::cluster::PendingChange;
use tsp_api::config as wire;
use tsp_store::catalog::Scope;

use super::precondition::Precondition;
use super::save::{Change, Draft, read_dry_run};
use super::wire::{Source, config_json, leave_unnamed_secrets_behind, patched, read_document, read_patch};
use crate::auth::Caller;
use crate::body::{Json, UnreadBody};
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// Change parts of a config
///
/// An RFC 7396 merge: null puts a field back to its default. A new `type` drops the fields of the old one.
#[utoipa::path(
    patch, path = "/apps/{app}/configs/{config}", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "Checks and answers as ever, and changes nothing: no version, no line in the audit log, nothing kept under an idempotency key."),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is changed."),
    ),
    request_body = wire::ConfigPatch,
    responses(
        (status = 200, description = "Changed.", body = wire::Config, headers(("ETag" = String, description = "Its version."))),
        (status = 202, description = "Changed; `group`, `span` or `enabled` is new, and some node has not applied it within five seconds.",
            body = PendingChange),
        (status = 409, description = "`name` or `kind` would change, or `span` while tasks are open."),
        (status = 412, description = "The config has another version."),
    )
)]
pub(super) async fn patch_config(
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
    let body = body.raw_json().await?;
    let patch = read_patch(&body)?;
    let change = Change { state: &state, caller: &caller, app: &app, name: &config, precondition, dry_run };
    change
        .save(
            |found| {
                let found = found.ok_or_else(|| lookup::no_config(app.name.as_str(), &config))?;
                let saved = config_json(found).map_err(ApiError::internal)?;
                let Json { value: mut doc, errors, .. } = read_document(patched(&saved, patch).into())?;
                let left_behind = leave_unnamed_secrets_behind(&mut doc, patch, found);
                Ok(Draft { doc, errors, left_behind })
            },
            |found| found.map_or(Source::New, Source::Patching),
        )
        .await
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{Answer, Server, cron, delayed};

    const CONFIG: &str = "/api/v1/apps/trade/configs/c";

    async fn patch(server: &Server, body: Value) -> Answer {
        server.call(Method::PATCH, CONFIG, body).await
    }

    #[tokio::test]
    async fn merges_and_null_is_the_default() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = delayed("c");
        config["labels"] = json!({"a": "1", "b": "2"});
        config["retry"] = json!({"max_attempts": 9, "jitter": 0.5});
        config["payload"] = json!({"n": 1});
        server.call(Method::PUT, CONFIG, config).await.expect(201);
        let changed = patch(
            &server,
            json!({"labels": {"a": null, "c": "3"}, "retry": {"max_attempts": null}, "payload": {"m": 2}}),
        );
        let changed = changed.await.expect(200);
        assert_eq!(changed["labels"], json!({"b": "2", "c": "3"}));
        assert_eq!(
            (&changed["retry"]["max_attempts"], &changed["retry"]["jitter"]),
            (&json!(5), &json!(0.5))
        );
        assert_eq!(changed["payload"], json!({"m": 2, "n": 1}));
        assert_eq!(
            patch(&server, json!({"payload": null, "version": 99})).await.expect(200)["payload"],
            Value::Null
        );
    }

    #[tokio::test]
    async fn secrets_change_one_by_one() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = delayed("c");
        config["target"]["secret_headers"] = json!({"X-A": "1", "X-B": "2"});
        config["signing_secrets"] = json!([format!("whsec_{}", "A".repeat(32))]);
        server.call(Method::PUT, CONFIG, config).await.expect(201);
        let changed = patch(&server, json!({"target": {"secret_headers": {"X-A": null, "X-C": "3"}}}))
            .await
            .expect(200);
        assert_eq!(changed["secret_header_names"], json!(["X-B", "X-C"]));
        assert_eq!(changed["signing_secret_count"], 1);
        let gone = patch(&server, json!({"signing_secrets": null, "target": {"secret_headers": null}}))
            .await
            .expect(200);
        assert_eq!((&gone["signing_secret_count"], &gone["secret_header_names"]), (&json!(0), &json!([])));
    }

    #[tokio::test]
    async fn secret_headers_do_not_follow_to_another_origin_unless_they_are_named() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = delayed("c");
        config["target"]["secret_headers"] = json!({"X-A": "1", "X-B": "2"});
        server.call(Method::PUT, CONFIG, config.clone()).await.expect(201);
        let path =
            patch(&server, json!({"target": {"url": "http://orders.internal/other"}})).await.expect(200);
        assert_eq!((path.get("notice"), &path["secret_header_names"]), (None, &json!(["X-A", "X-B"])));
        let moved =
            json!({"target": {"url": "http://evil.example/", "secret_headers": {"X-B": "9", "X-C": "3"}}});
        let moved = patch(&server, moved).await.expect(200);
        assert_eq!(moved["secret_header_names"], json!(["X-B", "X-C"]));
        assert_eq!(
            (&moved["notice"]["code"], &moved["notice"]["names"]),
            (&json!("secret_headers_dropped"), &json!(["X-A"]))
        );
        for (secrets, notice) in [(json!(null), None), (json!({}), Some(json!(["X-A", "X-B"])))] {
            server.call(Method::PUT, CONFIG, config.clone()).await.expect(200);
            let body = json!({"target": {"url": "http://evil.example/", "secret_headers": secrets}});
            let moved = patch(&server, body).await.expect(200);
            assert_eq!(moved["secret_header_names"], json!([]));
            assert_eq!(moved.get("notice").map(|notice| notice["names"].clone()), notice);
        }
    }

    #[tokio::test]
    async fn a_new_form_drops_the_fields_of_the_old() {
        let server = Server::start().await;
        server.app("trade").await;
        server.call(Method::PUT, CONFIG, cron("c")).await.expect(201);
        let body = json!({"schedule": {"type": "every", "interval": "5s"}, "retry": {"backoff": {"type": "list", "delays": ["1s"]}}});
        let changed = patch(&server, body).await.expect(200);
        assert_eq!(changed["schedule"]["interval"], "5s");
        assert_eq!(changed["retry"]["backoff"], json!({"type": "list", "delays": ["1s"]}));
    }

    #[tokio::test]
    async fn refuses_what_a_put_refuses() {
        let server = Server::start().await;
        server.app("trade").await;
        assert_eq!(patch(&server, json!({"priority": 1})).await.refused(), (404, "not_found".into()));
        server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
        assert_eq!(patch(&server, json!({"name": "d"})).await.refused(), (409, "immutable".into()));
        assert_eq!(patch(&server, json!({"kind": "cron"})).await.refused(), (409, "immutable".into()));
        assert_eq!(
            patch(&server, json!({"retry": {"x": 1}, "priority": 9})).await.fields(),
            ["priority", "retry.x"]
        );
        assert_eq!(patch(&server, json!({"target": null})).await.fields(), ["target"]);
        let read_only =
            json!({"paused": {"x": []}, "version": "x", "updated_at": 7, "app": {}, "priority": 3});
        assert_eq!(patch(&server, read_only).await.expect(200)["priority"], 3);
        assert_eq!(patch(&server, json!([1])).await.refused(), (400, "invalid_field".into()));
        assert_eq!(patch(&server, json!({})).await.expect(200)["version"], 3);
    }

    #[tokio::test]
    async fn a_schedule_that_has_ended_does_not_block_other_changes() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = cron("c");
        config["schedule"]["end_at"] = "2026-11-22T00:00:00Z".into();
        server.call(Method::PUT, CONFIG, config).await.expect(201);
        server.clock.advance(tsp_core::Millis::from_days(2));
        let changed = patch(&server, json!({"description": "over"})).await.expect(200);
        assert_eq!(changed["next_fire_at"], Value::Null);
        assert_eq!(patch(&server, json!({"schedule": {"expr": "0 0 3 * * ?"}})).await.fields(), ["schedule"]);
    }
}
