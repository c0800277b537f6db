//! The outermost layer: request ids, problem documents, panics, rate limit headers.
//!
//! One layer instead of a stack of them, because each costs an allocation per request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::HeaderValue;
use tokio::time::Instant;
use tsp_api::ErrorCode;
use tsp_api::headers::{RATE_LIMIT, RATE_LIMIT_POLICY, X_REQUEST_ID};

use crate::error::ApiError;
use crate::request::RequestContext;
use crate::state::WebState;

/// The longest request id of a caller that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Among the extensions of a request that does not name one host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BadHost;

impl BadHost {
    fn refusal() -> ApiError {
        let message = "must stand once in a request of HTTP/1.1, as `host` or `host:port`";
        ApiError::field(ErrorCode::InvalidField, "Host", message)
    }
}

/// The layer.
pub(crate) async fn wrap_request(
    State(state): State<Arc<WebState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let given = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_sane(id));
    let request_id = given.map_or_else(|| state.request_ids.make(), str::to_owned);
    let context = RequestContext::new(request_id);
    request.extensions_mut().insert(context.clone());

    // A panic of one handler must not close the connection of others behind a proxy, and is a 500.
    let answer = async {
        match request.extensions().get::<BadHost>() {
            Some(BadHost) => BadHost::refusal().into_response(),
            None => next.run(request).await,
        }
    };
    let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => ApiError::internal(panic_message(panic.as_ref())).into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        response = written(&error, &response, context.request_id());
    }
    state.http.answered(response.status(), start.elapsed());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(context.request_id()) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(rate) = context.rate() {
        headers.insert(RATE_LIMIT, rate.limit_header());
        headers.insert(RATE_LIMIT_POLICY, rate.policy_header());
    }
    response
}

/// The error as the answer, logged once if it is ours.
fn written(error: &ApiError, bare: &Response, request_id: &str) -> Response {
    if error.is_logged() {
        let internal = error.internal_detail().unwrap_or_else(|| error.detail());
        tracing::error!(request_id, code = error.code().as_str(), "request failed: {internal}");
    }
    let mut response = error.render(request_id);
    // `Allow` of a 405 is the router's.
    for (name, value) in bare.headers() {
        if name != http::header::CONTENT_TYPE && name != http::header::CONTENT_LENGTH {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

/// Visible ASCII without characters that would need quoting in a log.
fn is_sane(id: &str) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("without a message"))
}

/// Answers paths that do not exist.
pub(crate) async fn no_route() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is nothing at this path")
}

/// Answers methods that a path does not have; the router adds `Allow`.
pub(crate) async fn no_method() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "this path has other methods, see the `Allow` header")
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::Request;

    use super::*;
    use crate::testing::{Server, answered};

    #[tokio::test]
    async fn a_panic_is_a_problem_and_says_nothing() {
        let state = Server::state().await;
        let routes = axum::Router::new().route("/", get(|| async { panic!("the secret is 7") as () }));
        let router = routes.layer(axum::middleware::from_fn_with_state(state, wrap_request));
        let answer = answered(router, Request::get("/").body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(answer.refused(), (500, "internal".into()));
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
}
