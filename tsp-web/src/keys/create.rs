//! `POST /apps/{app}/keys`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use tsp_api::api_key::{self as wire, KEY_NAME_CHARS_MAX, RATE_COUNT_MAX};
use tsp_api::{ErrorCode, Errors};
use tsp_core::text::is_printable;
use tsp_core::{AppId, Entropy, Millis, Timestamp};
use tsp_store::catalog::{NewKey, RateLimit, Scope};

use super::{read_scope, shown};
use crate::auth::{Caller, Grant};
use crate::body::UnreadBody;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// How a key begins, so that scanners of source code find lost ones.
const KEY_PREFIX: &str = "tsp_";
/// How many characters of a key are kept to tell it from others.
const SHOWN_CHARS: usize = 10;
const RATE_PER_MAX: Millis = Millis::from_days(1);

/// Create an API key
///
/// The key is in the answer and nowhere else: it cannot be shown again.
#[utoipa::path(
    post, path = "/apps/{app}/keys", tag = "keys",
    params(("app" = String, Path)),
    request_body = wire::NewKey,
    responses(
        (status = 201, description = "Created.", body = wire::CreatedKey),
        (status = 403, description = "The credentials do not allow this, or the new key could do more than they do, for longer, or more often."),
    )
)]
pub(super) async fn create_key(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    body: UnreadBody,
) -> ApiResult {
    let app = lookup::app(&state, &caller, &app, &[Scope::Admin]).await?;
    let body = body.json::<wire::NewKey>().await?;
    let now = state.now();
    let mut errors = body.errors;
    let wanted = read(body.value, now, &mut errors);
    if !errors.is_empty() {
        return Err(errors.into());
    }
    caller.require_grantable(Grant {
        scopes: &wanted.scopes,
        expires_at: wanted.expires_at,
        rate_limit: wanted.rate_limit,
    })?;
    let secret = Secret::new(state.entropy.as_ref());
    let key = state.store.create_key(wanted.with(&secret, app.id), &caller.actor(), now).await?;
    Ok(created(secret, shown(key)))
}

fn created(secret: Secret, about: wire::Key) -> Response {
    let body = axum::Json(wire::CreatedKey { key: secret.text, about });
    let mut response = (StatusCode::CREATED, body).into_response();
    // The only answer with a secret in it.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A new key in clear.
struct Secret {
    text: String,
}

impl Secret {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        Self { text: format!("{KEY_PREFIX}{}", hex::encode(bytes)) }
    }
}

/// What a request asks for, before there is a key.
struct KeyRequest {
    name: String,
    scopes: Vec<Scope>,
    rate_limit: Option<RateLimit>,
    expires_at: Option<Timestamp>,
}

impl KeyRequest {
    fn with(self, secret: &Secret, app: AppId) -> NewKey {
        NewKey {
            app: Some(app),
            name: self.name,
            scopes: self.scopes,
            hash: Sha256::digest(secret.text.as_bytes()).into(),
            prefix: secret.text.chars().take(SHOWN_CHARS).collect(),
            rate_limit: self.rate_limit,
            expires_at: self.expires_at,
        }
    }
}

fn read(body: wire::NewKey, now: Timestamp, errors: &mut Errors) -> KeyRequest {
    match &body.name {
        None => errors.missing("name"),
        Some(name) if name.trim().is_empty() => errors.add("name", "must not be empty"),
        Some(name) if name.chars().count() > KEY_NAME_CHARS_MAX => {
            errors.add("name", format!("must be at most {KEY_NAME_CHARS_MAX} characters"));
        }
        Some(name) if !name.chars().all(is_printable) => {
            errors.add("name", "may hold only characters that can be seen, in one line");
        }
        Some(_) => {}
    }
    let name = body.name.unwrap_or_default();
    let mut scopes: Vec<Scope> = body.scopes.iter().flatten().copied().map(read_scope).collect();
    scopes.sort();
    scopes.dedup();
    if body.scopes.is_none() {
        errors.missing("scopes");
    } else if scopes.is_empty() && !errors.has("scopes[0]") {
        errors.add("scopes", "must name at least one of `read`, `submit`, `manage`, `admin`");
    }
    if scopes.contains(&Scope::Worker) {
        errors.add_as(ErrorCode::NotSupported, "scopes", "`worker` is not supported yet");
    }
    let expires_at = body.expires_at.map(|at| at.0);
    if expires_at.is_some_and(|at| at <= now) {
        errors.add("expires_at", "must lie in the future");
    }
    KeyRequest {
        name,
        scopes,
        rate_limit: body.rate_limit.and_then(|limit| read_rate(limit, errors)),
        expires_at,
    }
}

/// `None` when something is wrong with it, which then stands in `errors`.
fn read_rate(limit: wire::RateLimit, errors: &mut Errors) -> Option<RateLimit> {
    match limit.count {
        None => errors.missing("rate_limit.count"),
        Some(count) if !(1..=RATE_COUNT_MAX).contains(&count) => {
            errors.add("rate_limit.count", format!("must be 1 to {RATE_COUNT_MAX}, is {count}"));
        }
        Some(_) => {}
    }
    match limit.per {
        None => errors.missing("rate_limit.per"),
        Some(per) if !per.0.is_positive() || per.0 > RATE_PER_MAX => {
            errors.add("rate_limit.per", format!("must be `1ms` to `1d`, is `{per}`"));
        }
        Some(_) => {}
    }
    Some(RateLimit { count: limit.count?, per: limit.per?.0 })
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};
    use tsp_core::Millis;

    use crate::testing::Server;

    #[tokio::test]
    async fn shows_the_key_once_and_it_works_until_it_is_deleted() {
        let server = Server::start().await;
        server.app("trade").await;
        let body = json!({"name": "ci", "scopes": ["read", "read"], "expires_at": "2026-11-22T00:00:00Z"});
        let made = server.post("/api/v1/apps/trade/keys", body).await;
        assert_eq!(made.header("cache-control"), "no-store");
        let made = made.expect(201);
        let key = made["key"].as_str().unwrap();
        assert!(key.starts_with("tsp_") && key.len() == 68);
        let listed = server.get("/api/v1/apps/trade/keys").await.expect(200);
        assert_eq!(listed["items"][0]["scopes"], json!(["read"]));
        assert_eq!(listed["items"][0]["prefix"], key[..10]);
        assert!(!listed.to_string().contains(key));

        let get = || server.call_as(key, Method::GET, "/api/v1/apps/trade", Value::Null);
        get().await.expect(200);
        let delete = format!("/api/v1/apps/trade/keys/{}", made["id"].as_str().unwrap());
        server.call(Method::DELETE, &delete, Value::Null).await.expect(204);
        let gone = get().await;
        assert_eq!(gone.refused(), (401, "unauthenticated".into()));
        assert_eq!(gone.header("www-authenticate"), "Bearer");
        assert_eq!(server.call(Method::DELETE, &delete, Value::Null).await.refused().0, 404);
    }

    #[tokio::test]
    async fn expires() {
        let server = Server::start().await;
        server.app("trade").await;
        let body = json!({"name": "ci", "scopes": ["read"], "expires_at": "2026-11-21T11:00:00Z"});
        let made = server.post("/api/v1/apps/trade/keys", body).await.expect(201);
        let get =
            || server.call_as(made["key"].as_str().unwrap(), Method::GET, "/api/v1/apps/trade", Value::Null);
        get().await.expect(200);
        server.clock.advance(Millis::from_mins(30));
        assert_eq!(get().await.refused(), (401, "unauthenticated".into()));
    }

    #[tokio::test]
    async fn names_every_bad_field() {
        let server = Server::start().await;
        server.app("trade").await;
        let post = |body| server.post("/api/v1/apps/trade/keys", body);
        assert_eq!(post(json!({})).await.fields(), ["name", "scopes"]);
        let bad = json!({"name": " ", "scopes": ["root", "read"], "expires_at": "2026-11-21T10:30:00Z",
            "rate_limit": {"count": 0, "per": "2d"}});
        assert_eq!(
            post(bad).await.fields(),
            ["expires_at", "name", "rate_limit.count", "rate_limit.per", "scopes[0]"]
        );
        assert_eq!(
            post(json!({"name": "w", "scopes": ["worker"]})).await.refused(),
            (400, "not_supported".into())
        );
    }

    #[tokio::test]
    async fn only_an_admin_of_the_app_makes_keys() {
        let server = Server::start().await;
        server.app("trade").await;
        server.app("other").await;
        let body = json!({"name": "x", "scopes": ["read"]});
        let path = "/api/v1/apps/trade/keys";
        for (app, scopes, expected) in [
            ("trade", "admin", (201, None)),
            ("trade", "manage", (403, Some("forbidden"))),
            ("other", "admin", (404, Some("not_found"))),
        ] {
            let key = server.key(app, &[scopes]).await;
            let answer = server.call_as(&key, Method::POST, path, body.clone()).await;
            let code = answer.json()["code"].as_str().map(str::to_owned);
            assert_eq!((answer.status.as_u16(), code.as_deref()), expected, "{app} {scopes}");
        }
    }

    #[tokio::test]
    async fn nobody_grants_more_than_they_have() {
        let server = Server::start().await;
        server.app("trade").await;
        let path = "/api/v1/apps/trade/keys";
        let limit = json!({"count": 100, "per": "1m"});
        let body = json!({"name": "ops", "scopes": ["admin"], "expires_at": "2026-12-01T00:00:00Z", "rate_limit": limit});
        let made = server.post(path, body).await.expect(201);
        let key = made["key"].as_str().unwrap();
        let post = async |scope: &str, expires_at: Value, rate_limit: Value| {
            let body =
                json!({"name": "x", "scopes": [scope], "expires_at": expires_at, "rate_limit": rate_limit});
            server.call_as(key, Method::POST, path, body).await
        };
        for (expires_at, rate_limit, field) in [
            (Value::Null, limit.clone(), "expires_at"),
            (json!("2026-12-01T00:00:00.001Z"), limit.clone(), "expires_at"),
            (json!("2026-12-01T00:00:00Z"), Value::Null, "rate_limit"),
            (json!("2026-12-01T00:00:00Z"), json!({"count": 101, "per": "1d"}), "rate_limit"),
            (json!("2026-12-01T00:00:00Z"), json!({"count": 100, "per": "59s"}), "rate_limit"),
        ] {
            let refused = post("read", expires_at, rate_limit).await;
            assert_eq!(
                (refused.refused(), refused.fields()),
                ((403, "forbidden".into()), vec![field.to_owned()])
            );
        }
        let within = post("admin", json!("2026-11-30T00:00:00Z"), json!({"count": 1, "per": "1s"})).await;
        // And so on: what was granted is the bound of what comes next.
        let inner = within.expect(201)["key"].as_str().unwrap().to_owned();
        let body = json!({"name": "y", "scopes": ["read"], "expires_at": "2026-12-01T00:00:00Z", "rate_limit": limit});
        assert_eq!(server.call_as(&inner, Method::POST, path, body).await.fields(), ["expires_at"]);
        // Who has no bounds grants none.
        server.post(path, json!({"name": "z", "scopes": ["admin"]})).await.expect(201);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_holds_and_is_shown() {
        let server = Server::start().await;
        server.app("trade").await;
        let body = json!({"name": "ci", "scopes": ["read"], "rate_limit": {"count": 2, "per": "20s"}});
        let made = server.post("/api/v1/apps/trade/keys", body).await.expect(201);
        let get =
            || server.call_as(made["key"].as_str().unwrap(), Method::GET, "/api/v1/apps/trade", Value::Null);
        let first = get().await;
        assert_eq!(
            (first.header("ratelimit"), first.header("ratelimit-policy")),
            ("\"key\";r=1;t=10", "\"key\";q=2;w=20")
        );
        get().await.expect(200);
        let third = get().await;
        assert_eq!(third.refused(), (429, "rate_limited".into()));
        assert_eq!((third.header("retry-after"), third.header("ratelimit")), ("10", "\"key\";r=0;t=10"));
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        get().await.expect(200);
    }
}
