//! `Idempotency-Key`: a repeat of a POST gets the answer of the first (API.md section 1).

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tsp_api::headers::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED};
use tsp_api::{ErrorCode, json};
use tsp_core::{Millis, Timestamp};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::in_flight::InFlight;

/// How long answers are kept.
pub const KEPT_FOR: Millis = Millis::from_hours(24);
/// The longest key, in bytes of printable ASCII.
pub const KEY_BYTES_MAX: usize = 255;

/// The header, if it was sent, with the path it was sent to.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(Option<GivenKey>);

#[derive(Debug, Clone)]
struct GivenKey {
    key: String,
    path: String,
}

/// A key that is being worked on; a second request with it is refused until this is dropped.
#[derive(Debug)]
pub struct Claim {
    in_flight: InFlight,
    hash: [u8; 32],
    body_hash: [u8; 32],
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        let good = (1..=KEY_BYTES_MAX).contains(&value.len())
            && value.as_bytes().iter().all(|b| matches!(b, b' '..=b'~'));
        match value.to_str() {
            Ok(key) if good => {
                Ok(Self(Some(GivenKey { key: key.to_owned(), path: parts.uri.path().to_owned() })))
            }
            _ => Err(ApiError::field(
                ErrorCode::InvalidField,
                "Idempotency-Key",
                format!("must be 1 to {KEY_BYTES_MAX} printable ASCII characters"),
            )),
        }
    }
}

impl IdempotencyKey {
    /// The key of element `index` of a batch.
    #[must_use]
    pub fn element(&self, index: usize) -> Self {
        Self(
            self.0
                .as_ref()
                .map(|given| GivenKey { key: format!("{}#{index}", given.key), path: given.path.clone() }),
        )
    }

    /// Takes the key for a request with this JSON body. `None` without a key; 409 while it is taken.
    pub(crate) fn claim(
        &self,
        in_flight: &InFlight,
        caller: &Caller,
        body: &[u8],
    ) -> ApiResult<Option<Claim>> {
        let Some(given) = &self.0 else { return Ok(None) };
        let hash = digest(&[caller.credential().as_bytes(), given.path.as_bytes(), given.key.as_bytes()]);
        if !in_flight.insert(hash) {
            return Err(ApiError::new(
                ErrorCode::IdempotencyInProgress,
                "a request with this `Idempotency-Key` is being worked on; ask again in a moment",
            ));
        }
        let claim = Claim { in_flight: in_flight.clone(), hash, body_hash: body_hash(body) };
        Ok(Some(claim))
    }
}

impl Claim {
    /// What the store needs to keep the answer. `render` is called before the commit.
    pub fn request<T: ?Sized>(
        &self,
        now: Timestamp,
        render: impl FnOnce(&T) -> Option<StoredAnswer> + Send + 'static,
    ) -> IdempotencyRequest<T> {
        IdempotencyRequest {
            hash: self.hash,
            body_hash: self.body_hash,
            expires_at: now.plus(KEPT_FOR),
            render: Box::new(render),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.remove(&self.hash);
    }
}

/// The own answer of a fresh call; else the kept one, or 422.
pub fn unwrap_idempotent<T>(kept: IdempotencyResult<T>) -> ApiResult<Result<T, Response>> {
    match kept {
        IdempotencyResult::Fresh(answer) => Ok(Ok(answer)),
        IdempotencyResult::Replayed(stored) => Ok(Err(replay(stored))),
        IdempotencyResult::Mismatch => Err(mismatch()),
    }
}

/// 422: the key came with another body.
pub fn mismatch() -> ApiError {
    ApiError::new(
        ErrorCode::IdempotencyMismatch,
        "this `Idempotency-Key` was used for a different body; take a new key for a new request",
    )
}

/// A stored answer, marked as given before.
pub fn replay(stored: StoredAnswer) -> Response {
    let mut response = answer(stored);
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The answer that is sent and kept alike.
pub fn answer(stored: StoredAnswer) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, stored.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(location) = stored.location.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// A JSON answer in the form that can be kept.
pub fn stored<T: Serialize + ?Sized>(status: StatusCode, body: &T, location: Option<String>) -> StoredAnswer {
    let body = serde_json::to_vec(body).unwrap_or_default().into();
    StoredAnswer { status: status.as_u16(), body, location }
}

/// Bodies that are equal as JSON have equal hashes: blanks, escapes and the order of members do not matter.
/// A number is its digits, so that two which a parser cannot tell apart are two.
fn body_hash(body: &[u8]) -> [u8; 32] {
    let text = str::from_utf8(body).ok();
    text.and_then(|text| json::digest(text).ok()).unwrap_or_else(|| digest(&[body]))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        // Lengths keep `ab`, `c` apart from `a`, `bc`.
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_json_is_the_same_request() {
        assert_eq!(body_hash(b"{\"a\":1,\"b\":[2]}"), body_hash(b" {\"b\": [2], \"\\u0061\": 1}"));
        assert_ne!(body_hash(b"{\"a\":1}"), body_hash(b"{\"a\":2}"));
        assert_ne!(body_hash(b"[1,2]"), body_hash(b"[2,1]"));
        let large = |end: &str| body_hash(format!("{{\"payload\":10000000000000000000000{end}}}").as_bytes());
        assert_eq!(large("1"), large("1"));
        assert_ne!(large("1"), large("2"));
    }
}
