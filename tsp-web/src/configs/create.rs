//! `POST /apps/{app}/configs`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tsp_api::ErrorCode;
use tsp_api::config as wire;
use tsp_core::{AppId, Name, Timestamp};
use tsp_store::catalog::{App, ConfigSaved, ExpectedVersion, SaveConfig, Scope};

use super::save::{created, location, new_config, new_document, read_dry_run, reader};
use super::wire::{Source, read_config, read_document};
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult};
use crate::idempotency::{IdempotencyKey, stored, unwrap_idempotent};
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// Create a config
#[utoipa::path(
    post, path = "/apps/{app}/configs", tag = "configs",
    params(
        ("app" = String, Path),
        ("dry_run" = Option<bool>, Query, description = "Checks and answers as ever, and changes nothing: no version, no line in the audit log, nothing kept under an idempotency key."),
        ("assume_app" = Option<bool>, Query, description = "With `dry_run`, by who may make apps: as if the app existed."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat."),
    ),
    request_body = wire::NewConfig,
    responses(
        (status = 201, description = "Created.", body = wire::Config,
            headers(("Location" = String, description = "Its path."), ("ETag" = String, description = "Its version."))),
        (status = 409, description = "The name is taken, or the same request is being worked on."),
        (status = 422, description = "The idempotency key was used for another body."),
    )
)]
pub(super) async fn create_config(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    key: IdempotencyKey,
    mut query: Query,
    body: UnreadBody,
) -> ApiResult {
    let dry_run = read_dry_run(&mut query);
    let assume_app = query.bool("assume_app").unwrap_or(false) && dry_run;
    let now = state.now();
    let app = match lookup::app(&state, &caller, &app, &[Scope::Manage]).await {
        Err(unknown) if assume_app && unknown.code() == ErrorCode::NotFound => {
            assumed(&caller, &app, now).ok_or(unknown)?
        }
        found => found?,
    };
    query.finish()?;
    let body = read_document(body.raw_json().await?)?;
    let claim = if dry_run { None } else { key.claim(&state.in_flight, &caller, &body.raw)? };
    let mut errors = body.errors;
    let spec = read_config(reader(&state, now), body.value, None, Source::New, &mut errors);
    let spec = spec.filter(|_| errors.is_empty()).ok_or_else(|| ApiError::from(errors))?;
    let name = spec.name.clone();
    if dry_run {
        return match lookup::config_named(&state, &app, name.as_str()).await? {
            Some(_) => Err(already_exists(app.name.as_str(), name.as_str())),
            None => Ok(created(&new_config(&app, spec, now), now)),
        };
    }

    let idempotency = claim.as_ref().map(|claim| {
        claim.request(now, move |saved: &ConfigSaved| match saved {
            ConfigSaved::Created(config) => {
                Some(stored(StatusCode::CREATED, &new_document(config, now), Some(location(config))))
            }
            _ => None,
        })
    });
    let save = SaveConfig { app: app.id, spec, expected: ExpectedVersion::Absent };
    let saved = state.store.save_config(save, idempotency, &caller.actor(), now).await?;
    match unwrap_idempotent(saved)? {
        Err(replayed) => Ok(replayed),
        Ok(ConfigSaved::Created(config)) => {
            state.hints.config_changed(config.id);
            Ok(created(&config, now))
        }
        Ok(ConfigSaved::NotFound) => Err(lookup::no_app(app.name.as_str())),
        Ok(_) => Err(already_exists(app.name.as_str(), name.as_str())),
    }
}

/// An app that the caller may make, as if it were there.
fn assumed(caller: &Caller, name: &str, now: Timestamp) -> Option<Arc<App>> {
    let name = Name::new(name).ok().filter(|_| caller.is_global_admin())?;
    let id = AppId::default();
    let (description, owner) = (String::new(), String::new());
    Some(Arc::new(App { id, name, description, owner, created_at: now, updated_at: now }))
}

fn already_exists(app: &str, name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::AlreadyExists,
        format!("config `{app}/{name}` exists; change it with PUT or PATCH"),
    )
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use crate::testing::{Server, cron, delayed};

    const CONFIGS: &str = "/api/v1/apps/trade/configs";

    #[tokio::test]
    async fn three_fields_are_enough_and_all_are_shown() {
        let server = Server::start().await;
        server.app("trade").await;
        let made = server.post(CONFIGS, delayed("close-order")).await;
        assert_eq!(made.header("location"), "/api/v1/apps/trade/configs/close-order");
        assert_eq!(made.header("etag"), "\"1\"");
        assert_eq!(server.told(), 1);
        let made = made.expect(201);
        assert_eq!(
            made,
            json!({
                "name": "close-order", "kind": "delayed", "description": "", "owner": "",
                "target": {"type": "http", "url": "http://orders.internal/close", "method": "POST", "headers": {}},
                "schedule": null,
                "retry": {"max_attempts": 5, "backoff": {"type": "exponential", "initial": "1s", "factor": 2.0, "max": "5m"},
                    "jitter": 0.1, "max_age": "2d", "non_retryable_status": []},
                "timeout": {"connect": "2s", "total": "10s"},
                "async": {"enabled": false, "deadline": "15m"},
                "limits": {"task_per_loop": null, "loop": "1s", "max_concurrency": null,
                    "adaptive": {"enabled": false, "min": 10, "target_rt": "200ms"}},
                "payload": null, "labels": {}, "priority": 2, "queue": "default", "group": "default", "span": 1,
                "sharding_count": 1, "join": {"type": "all"},
                "on_duplicate_key": "ignore", "expire_after": null, "retention": "7d", "visibility": "app",
                "notify": [], "enabled": true,
                "app": "trade", "version": 1, "created_at": "2026-11-21T10:30:00.000Z",
                "updated_at": "2026-11-21T10:30:00.000Z", "paused": null, "parked": null, "next_fire_at": null,
                "signing_secret_count": 0, "secret_header_names": [],
            })
        );
        // What was shown can be sent back.
        let again = server.call(http::Method::PUT, &format!("{CONFIGS}/close-order"), made.clone()).await;
        assert_eq!(again.expect(200)["retry"], made["retry"]);
        assert_eq!(
            server.post(CONFIGS, delayed("close-order")).await.refused(),
            (409, "already_exists".into())
        );
    }

    #[tokio::test]
    async fn a_cron_config_knows_its_next_fire() {
        let server = Server::start().await;
        server.app("trade").await;
        let made = server.post(CONFIGS, cron("nightly")).await.expect(201);
        assert_eq!(made["next_fire_at"], "2026-11-21T18:00:00.000Z");
        assert_eq!(
            made["schedule"],
            json!({"type": "cron", "expr": "0 0 2 * * ?", "dialect": "quartz", "timezone": "Asia/Shanghai",
                "start_at": null, "end_at": null, "misfire": {"policy": "fire_once", "grace": "1h"}, "overlap": "skip"})
        );
    }

    #[tokio::test]
    async fn secrets_are_never_shown() {
        let server = Server::start().await;
        server.app("trade").await;
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([9; 32]));
        let mut config = delayed("c");
        config["signing_secrets"] = json!([secret]);
        config["target"]["secret_headers"] = json!({"X-Token": "s3cret"});
        let made = server.post(CONFIGS, config).await.expect(201);
        assert_eq!(
            (&made["signing_secret_count"], &made["secret_header_names"]),
            (&json!(1), &json!(["X-Token"]))
        );
        assert!(!made.to_string().contains(&secret) && !made.to_string().contains("s3cret"));
    }

    async fn refused(server: &Server, edit: impl FnOnce(&mut Value)) -> (String, Vec<String>) {
        let mut config = delayed("bad");
        edit(&mut config);
        let answer = server.post(CONFIGS, config).await;
        (answer.refused().1, answer.fields())
    }

    #[tokio::test]
    async fn every_bad_field_is_named_at_once() {
        let server = Server::start().await;
        server.app("trade").await;
        let answer = server
            .post(
                CONFIGS,
                json!({
                    "name": "No Name", "kind": "sometimes", "target": {"type": "http", "url": 5, "headers": {"Host": "x"}},
                    "retry": {"max_attempts": 0, "backoff": {"type": "list", "delays": ["1s", "soon"]}, "jitter": 2},
                    "timeout": {"connect": "20s", "total": "10s"}, "async": {"deadline": "0s"},
                    "priority": 5, "span": 5, "group": "Not Good", "retention": "40000d", "labels": {"a\u{1}": "x"},
                    "on_duplicate_key": "maybe", "signing_secrets": ["abc"], "lables": {}, "enabled": "yes",
                    "description": "x".repeat(2001),
                }),
            )
            .await;
        assert_eq!(answer.refused(), (400, "unknown_field".into()));
        assert_eq!(
            answer.fields(),
            [
                "async.deadline",
                "description",
                "enabled",
                "group",
                "kind",
                "labels.a\u{1}",
                "lables",
                "name",
                "on_duplicate_key",
                "priority",
                "retention",
                "retry.backoff.delays[1]",
                "retry.jitter",
                "retry.max_attempts",
                "signing_secrets[0]",
                "span",
                "target.headers.Host",
                "target.url",
                "timeout.connect",
            ]
        );
        assert_eq!(server.post(CONFIGS, json!({})).await.fields(), ["kind", "name", "target"]);
    }

    #[tokio::test]
    async fn rules_between_fields() {
        let server = Server::start().await;
        server.app("trade").await;
        let schedule = json!({"type": "every", "interval": "5s"});
        assert_eq!(refused(&server, |c| c["kind"] = "cron".into()).await.1, ["schedule"]);
        assert_eq!(refused(&server, |c| c["schedule"] = schedule.clone()).await.1, ["schedule"]);
        for (schedule, fields) in [
            (json!({"type": "cron"}), vec!["schedule.expr", "schedule.timezone"]),
            (
                json!({"type": "cron", "expr": "x", "timezone": "Mars"}),
                vec!["schedule.expr", "schedule.timezone"],
            ),
            (json!({"type": "cron", "expr": "0 0 0 30 2 ?", "timezone": "UTC"}), vec!["schedule"]),
            (json!({"type": "every", "interval": "5s", "expr": "x"}), vec!["schedule.expr"]),
            (json!({"type": "every", "interval": "1ms"}), vec!["schedule.interval"]),
            (json!({"type": "every", "interval": "5s", "end_at": "2020-01-01T00:00:00Z"}), vec!["schedule"]),
            (
                json!({"type": "every", "interval": "5s", "misfire": {"policy": "fire_all"}}),
                vec!["schedule.misfire.max"],
            ),
            (json!({"type": "never"}), vec!["schedule.type"]),
        ] {
            let answer = refused(&server, |c| {
                c["kind"] = "cron".into();
                c["schedule"] = schedule.clone();
            });
            assert_eq!(answer.await.1, fields, "{schedule}");
        }
        let twice = json!({"X-A": "1"});
        let answer = refused(&server, |c| {
            c["target"]["headers"] = twice;
            c["target"]["secret_headers"] = json!({"x-a": "2"});
        });
        assert_eq!(answer.await.1, ["target.secret_headers.x-a"]);
    }

    #[tokio::test]
    async fn targets_pass_the_egress_policy() {
        let server = Server::start().await;
        server.app("trade").await;
        for (url, code) in [
            ("http://127.0.0.1/", "egress_denied"),
            ("http://169.254.169.254/", "egress_denied"),
            ("file:///etc/passwd", "egress_denied"),
            ("http://example.com:6379/", "egress_denied"),
            ("not a url", "invalid_field"),
        ] {
            let refused = refused(&server, |c| c["target"]["url"] = url.into()).await;
            assert_eq!(refused, (code.to_owned(), vec!["target.url".to_owned()]), "{url}");
        }
    }

    #[tokio::test]
    async fn what_is_not_built_yet_is_refused_unless_it_is_the_default() {
        let server = Server::start().await;
        server.app("trade").await;
        for (field, value, named) in [
            (
                "limits",
                json!({"task_per_loop": 500, "max_concurrency": 64}),
                vec!["limits.max_concurrency", "limits.task_per_loop"],
            ),
            (
                "limits",
                json!({"pool": "p", "submit_rate": {"count": 1, "per": "1s"}}),
                vec!["limits.pool", "limits.submit_rate"],
            ),
            (
                "limits",
                json!({"loop": "2s", "adaptive": {"enabled": true}}),
                vec!["limits.adaptive.enabled", "limits.loop"],
            ),
            (
                "notify",
                json!([{"on": ["failed"], "target": {"type": "http", "url": "http://x.example"}}]),
                vec!["notify"],
            ),
            ("sharding_count", json!(2), vec!["sharding_count"]),
            ("join", json!({"type": "quorum", "n": 3}), vec!["join"]),
            ("queue", json!("fast"), vec!["queue"]),
            (
                "target",
                json!({"type": "grpc", "address": "a:1", "service": "s", "method": "m"}),
                vec!["target.type"],
            ),
            ("target", json!({"type": "custom"}), vec!["target.type"]),
            (
                "target",
                json!({"type": "dubbo", "addresses": ["dubbo://a:20880"], "interface": "i", "method": "m",
                    "parameter_types": ["java.lang.String"]}),
                vec!["target.type"],
            ),
        ] {
            let refused = refused(&server, |c| c[field] = value.clone()).await;
            let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
            assert_eq!(refused, ("not_supported".to_owned(), named), "{field} {value}");
        }
    }

    #[tokio::test]
    async fn a_payload_keeps_its_bytes_and_its_limit() {
        let server = Server::start().await;
        server.app("trade").await;
        let body = r#"{"name":"c","kind":"delayed","target":{"type":"http","url":"http://a.example/"},"payload":{ "n" : 1.10 }}"#;
        let request = http::Request::post(CONFIGS)
            .header("authorization", format!("Bearer {}", crate::testing::BOOTSTRAP))
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
        let made = server.send(request).await;
        assert_eq!(made.status, 201);
        assert!(String::from_utf8_lossy(&made.body).contains(r#""payload":{ "n" : 1.10 }"#));
        let large = refused(&server, |c| c["payload"] = "x".repeat(1_000).into()).await;
        assert_eq!(large.0, "too_large");
    }
}
