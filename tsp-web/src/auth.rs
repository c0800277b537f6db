//! Who calls, and what they may do (API.md section 1, scopes).

mod cache;
mod grant;
pub(crate) mod loopback;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use sha2::{Digest, Sha256};
use tsp_api::ErrorCode;
use tsp_core::AppId;
use tsp_store::catalog::{App, Scope};
use tsp_store::tasks::Actor;

pub(crate) use cache::KeyCache;
use cache::KnownKey;
pub(crate) use grant::Grant;

use crate::error::{ApiError, ApiResult};
use crate::rate_limit::RateExceeded;
use crate::request::RequestContext;
use crate::state::WebState;

/// Somebody whose credentials are good. As an extractor it also counts once for the key's rate limit.
#[derive(Debug, Clone)]
pub struct Caller {
    who: CallerKind,
    context: RequestContext,
}

#[derive(Debug, Clone)]
enum CallerKind {
    /// The operator's bootstrap key.
    Bootstrap,
    /// Anybody on the machine of a development server.
    Dev,
    Key(Arc<KnownKey>),
}

impl Caller {
    /// Whether everything is allowed, whatever the app.
    pub fn is_global_admin(&self) -> bool {
        match &self.who {
            CallerKind::Bootstrap | CallerKind::Dev => true,
            CallerKind::Key(known) => known.key.app.is_none() && grants(&known.key.scopes, Scope::Admin),
        }
    }

    /// The app that the caller's key belongs to; `None` for global callers.
    pub fn app(&self) -> Option<AppId> {
        match &self.who {
            CallerKind::Bootstrap | CallerKind::Dev => None,
            CallerKind::Key(known) => known.key.app,
        }
    }

    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor(self.credential())
    }

    /// A stable name of the credential: `key:17`, `bootstrap`, `dev`.
    pub fn credential(&self) -> String {
        match &self.who {
            CallerKind::Bootstrap => "bootstrap".to_owned(),
            CallerKind::Dev => "dev".to_owned(),
            CallerKind::Key(known) => format!("key:{}", known.key.id),
        }
    }

    pub fn request_id(&self) -> &str {
        self.context.request_id()
    }

    /// Whether the key's scopes include `scope`, leaving aside for which app.
    pub fn grants(&self, scope: Scope) -> bool {
        match &self.who {
            CallerKind::Bootstrap | CallerKind::Dev => true,
            CallerKind::Key(known) => grants(&known.key.scopes, scope),
        }
    }

    /// Whether the caller sees that the app exists.
    pub fn sees(&self, app: AppId) -> bool {
        self.app().is_none_or(|own| own == app)
    }

    /// 404 when the caller must not even know of the app, 403 when the key lacks the scope.
    pub fn require(&self, scope: Scope, app: &App) -> ApiResult<()> {
        self.require_any(&[scope], app)
    }

    /// As [`Self::require`], for any one of `scopes`.
    pub fn require_any(&self, scopes: &[Scope], app: &App) -> ApiResult<()> {
        if !self.sees(app.id) {
            return Err(ApiError::not_found(format_args!("app `{}`", app.name)));
        }
        self.require_scope(scopes)
    }

    /// For calls beyond one app: a global key with the scope.
    pub fn require_global(&self, scope: Scope) -> ApiResult<()> {
        if self.app().is_some() {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "this call needs a global key; the key given belongs to one app",
            ));
        }
        self.require_scope(&[scope])
    }

    fn require_scope(&self, scopes: &[Scope]) -> ApiResult<()> {
        if scopes.iter().any(|&scope| self.grants(scope)) {
            return Ok(());
        }
        let needed: Vec<_> = scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
        Err(ApiError::new(ErrorCode::Forbidden, format!("the key needs the scope {}", needed.join(" or "))))
    }

    /// Takes `count` from the key's rate limit, all or nothing.
    fn charge(&self, count: u32) -> ApiResult<()> {
        let CallerKind::Key(known) = &self.who else { return Ok(()) };
        let Some(bucket) = &known.bucket else { return Ok(()) };
        let (state, taken) = bucket.take(count, tokio::time::Instant::now());
        self.context.set_rate_limit(state);
        taken.map_err(rate_limited)
    }
}

/// A [`Caller`] that has not been counted yet, for calls that count as often as their body says: what such a
/// call costs is taken at once, so that a refusal costs nothing and its `Retry-After` holds for all of it.
#[derive(Debug)]
pub struct UncountedCaller(Caller);

impl UncountedCaller {
    pub fn caller(&self) -> &Caller {
        &self.0
    }

    /// 429 unless the key's rate limit has room for `count` calls.
    pub fn pay(self, count: usize) -> ApiResult<Caller> {
        self.0.charge(u32::try_from(count).unwrap_or(u32::MAX))?;
        Ok(self.0)
    }
}

fn rate_limited(exhausted: RateExceeded) -> ApiError {
    ApiError::new(ErrorCode::RateLimited, "the rate limit of the key is used up; wait as `Retry-After` says")
        .with_retry_after(exhausted.retry_after_s)
}

/// `manage` includes `read` and `submit`, `admin` everything but the workers' calls.
fn grants(scopes: &[Scope], wanted: Scope) -> bool {
    scopes.iter().any(|&scope| {
        scope == wanted
            || match scope {
                Scope::Admin => wanted != Scope::Worker,
                Scope::Manage => matches!(wanted, Scope::Read | Scope::Submit),
                Scope::Read | Scope::Submit | Scope::Worker => false,
            }
    })
}

impl FromRequestParts<Arc<WebState>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<WebState>) -> Result<Self, ApiError> {
        UncountedCaller::from_request_parts(parts, state).await?.pay(1)
    }
}

impl FromRequestParts<Arc<WebState>> for UncountedCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<WebState>) -> Result<Self, ApiError> {
        let context = RequestContext::from_request_parts(parts, state).await?;
        let Some(key) = bearer(parts)? else {
            if state.dev.is_none() {
                return Err(unauthenticated("an API key is needed: `Authorization: Bearer <key>`"));
            }
            loopback::check(parts)?;
            return Ok(Self(Caller { who: CallerKind::Dev, context }));
        };
        let hash: [u8; 32] = Sha256::digest(key).into();
        let who = if state.keys.is_bootstrap(&hash) {
            CallerKind::Bootstrap
        } else {
            let known = state.keys.find(&*state.store, &hash).await?;
            let known = known.ok_or_else(|| unauthenticated("the API key is not valid"))?;
            if known.key.expires_at.is_some_and(|at| at <= state.now()) {
                return Err(unauthenticated("the API key has expired"));
            }
            CallerKind::Key(known)
        };
        Ok(Self(Caller { who, context }))
    }
}

fn unauthenticated(detail: &'static str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

/// The key given, if any; other schemes are refused.
fn bearer(parts: &Parts) -> ApiResult<Option<&[u8]>> {
    let Some(value) = parts.headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let value = value.as_bytes();
    match value.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(Some(key.trim_ascii())),
        _ => Err(unauthenticated("`Authorization` must be `Bearer <key>`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_others() {
        for (has, wanted, granted) in [
            (Scope::Manage, Scope::Read, true),
            (Scope::Manage, Scope::Submit, true),
            (Scope::Manage, Scope::Admin, false),
            (Scope::Admin, Scope::Manage, true),
            (Scope::Admin, Scope::Worker, false),
            (Scope::Submit, Scope::Read, false),
            (Scope::Worker, Scope::Worker, true),
        ] {
            assert_eq!(grants(&[has], wanted), granted, "{has:?} {wanted:?}");
        }
    }
}
