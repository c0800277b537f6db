//! `GET /api/v1/openapi.json`, `GET /docs`, `GET /docs/errors/{code}`.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::error::{ApiError, ApiResult};
use crate::path::Path;
use crate::state::WebState;

const OPENAPI: &str = "/api/v1/openapi.json";
const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// `document` is the OpenAPI document as text.
pub(super) fn routes(document: Bytes) -> Router<Arc<WebState>> {
    let document = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    };
    Router::new()
        .route(OPENAPI, get(document))
        .route("/docs/errors/{code}", get(error_page))
        .merge(SwaggerUi::new("/docs").config(Config::from(OPENAPI)))
}

async fn error_page(Path(code): Path<String>) -> ApiResult {
    let page = PAGES.iter().find(|(name, _)| *name == code);
    let (_, page) = page.ok_or_else(|| ApiError::not_found("this error code"))?;
    Ok(([(header::CONTENT_TYPE, MARKDOWN)], *page).into_response())
}

macro_rules! pages {
    ($($code:literal)*) => {
        [$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*]
    };
}

/// The pages that `type` of a problem points to. A test of `tsp-api` keeps files and codes alike.
const PAGES: [(&str, &str); 29] = pages!(
    "already_exists" "config_disabled" "csrf" "egress_denied" "forbidden" "has_open_tasks"
    "idempotency_in_progress" "idempotency_mismatch" "immutable" "in_use" "internal" "invalid_cursor"
    "invalid_field" "invalid_json" "invalid_query" "invalid_transition" "key_in_use" "method_not_allowed"
    "not_found" "not_supported" "rate_limited" "too_large" "unauthenticated" "unavailable" "unknown_field"
    "unsupported_media_type" "version_mismatch" "wrong_kind" "wrong_token"
);

#[cfg(test)]
mod tests {
    use tsp_api::ErrorCode;

    use super::*;

    #[test]
    fn every_code_has_a_page_that_is_about_it() {
        for code in ErrorCode::ALL {
            let (_, page) = PAGES.iter().find(|(name, _)| *name == code.as_str()).unwrap();
            assert!(page.starts_with(&format!("# `{}`\n\nHTTP status {}.", code.as_str(), code.status())));
            assert!(page.contains("## What to do"), "{}", code.as_str());
        }
    }
}
