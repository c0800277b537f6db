//! Errors on their way to the caller. What is shown and what is logged are kept apart.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tsp_api::problem::PROBLEM_JSON;
use tsp_api::{ErrorCode, Errors, FieldError, Problem};
use tsp_store::StoreError;

/// How long a caller should wait when the store is unavailable, in seconds.
const STORE_RETRY_AFTER_S: u64 = 1;

/// An answer from 400 on. Handlers return it; [`crate::middleware`] writes its body, which needs the request id.
#[derive(Clone)]
pub struct ApiError {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    /// For the caller: lower case, no final stop, the subject in backticks.
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u64>,
    /// For the log only.
    internal: Option<String>,
    /// Expected, so not logged.
    quiet: bool,
}

pub type ApiResult<T = Response> = Result<T, ApiError>;

impl ApiError {
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                code,
                detail: detail.into(),
                errors: Vec::new(),
                retry_after_s: None,
                internal: None,
                quiet: false,
            }),
        }
    }

    /// 404. `what` names it, such as ``app `trade` ``.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{what} does not exist"))
    }

    /// 500. `internal` goes to the log, not to the caller.
    pub fn internal(internal: impl fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, "an internal error; the log has more under the request id")
            .with_internal(internal)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after_s: u64) -> Self {
        Self::new(ErrorCode::Unavailable, detail).with_retry_after(retry_after_s)
    }

    /// One bad field; for several use [`Errors`].
    pub fn field(code: ErrorCode, field: &str, message: impl Into<String>) -> Self {
        let mut errors = Errors::new();
        errors.add_as(code, field, message);
        Self::from(errors)
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        Arc::make_mut(&mut self.inner).retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub fn with_internal(mut self, internal: impl fmt::Display) -> Self {
        Arc::make_mut(&mut self.inner).internal = Some(internal.to_string());
        self
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        Arc::make_mut(&mut self.inner).errors = errors;
        self
    }

    /// An answer that is part of normal life although its code is one of failures.
    #[must_use]
    pub(crate) fn quiet(mut self) -> Self {
        Arc::make_mut(&mut self.inner).quiet = true;
        self
    }

    /// Whether the log should have it: failures of ours.
    pub(crate) fn is_logged(&self) -> bool {
        matches!(self.code(), ErrorCode::Internal | ErrorCode::Unavailable) && !self.inner.quiet
    }

    pub fn code(&self) -> ErrorCode {
        self.inner.code
    }

    pub fn detail(&self) -> &str {
        &self.inner.detail
    }

    pub(crate) fn internal_detail(&self) -> Option<&str> {
        self.inner.internal.as_deref()
    }

    /// The document that is sent; also one element's of a batch.
    pub fn problem(&self, request_id: &str) -> Problem {
        let mut problem = Problem::new(self.inner.code, self.inner.detail.clone(), request_id);
        problem.errors.clone_from(&self.inner.errors);
        problem
    }

    /// The whole answer.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&self.problem(request_id)).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.inner.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code() == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiError({}: {}", self.code().as_str(), self.inner.detail)?;
        for error in &self.inner.errors {
            write!(f, "; {}: {}", error.field, error.message)?;
        }
        f.write_str(")")
    }
}

impl IntoResponse for ApiError {
    /// Only the status; the middleware finds the error among the extensions and writes the rest.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The single detail of several bad fields: the first one, so that a person who sees only it has a start.
impl From<Errors> for ApiError {
    fn from(errors: Errors) -> Self {
        let code = errors.code().unwrap_or(ErrorCode::InvalidField);
        let fields = errors.into_fields();
        let detail = match fields.as_slice() {
            [] => "the request is wrong".to_owned(),
            [only] => format!("`{}` {}", only.field, only.message),
            [first, rest @ ..] => format!("`{}` {} (and {} more)", first.field, first.message, rest.len()),
        };
        Self::new(code, detail).with_errors(fields)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable { .. } => {
                Self::unavailable("the store is not available now; nothing was changed", STORE_RETRY_AFTER_S)
            }
            StoreError::Unknown(_) => Self::unavailable(
                "the change may or may not have been saved; repeat it with the same `Idempotency-Key`",
                STORE_RETRY_AFTER_S,
            ),
            StoreError::Corrupt { .. } | StoreError::Unusable(_) | StoreError::Internal(_) => {
                Self::internal(&error)
            }
        }
        .with_internal(&error)
    }
}

/// `Ok` when nothing is wrong.
pub trait Finish {
    fn finish(self) -> ApiResult<()>;
}

impl Finish for Errors {
    fn finish(self) -> ApiResult<()> {
        if self.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

#[cfg(test)]
mod tests {
    use tsp_store::Cause;

    use super::*;

    #[test]
    fn what_is_internal_is_not_shown() {
        let error = ApiError::from(StoreError::Internal("table task is gone".into()));
        let shown = serde_json::to_string(&error.problem("r1")).unwrap();
        assert!(!shown.contains("table"), "{shown}");
        assert_eq!(error.internal_detail(), Some("internal store error: table task is gone"));
        let error = ApiError::from(Cause::Busy.because("busy"));
        let response = error.render("r1");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &HeaderValue::from_static("1"))
        );
    }

    #[test]
    fn several_bad_fields_are_one_answer() {
        let mut errors = Errors::new();
        errors.add("name", "is missing");
        errors.add("retry.jitter", "must be 0 to 1");
        let problem = ApiError::from(errors).problem("r1");
        assert_eq!(problem.detail, "`name` is missing (and 1 more)");
        assert_eq!(problem.errors.len(), 2);
    }
}
