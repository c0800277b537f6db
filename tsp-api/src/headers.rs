//! Names of headers, lower case as HTTP/2 and the `http` crate have them (API.md sections 1 and 5).

use http::HeaderName;

/// Names a request in answers, problems and logs.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Makes a POST that creates something safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `true` on an answer that was given before.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// What is left of a key's rate limit.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// A key's rate limit.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The W3C trace context of a submit, kept with the task.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
