//! `GET /api/v1/openapi.json`, `GET /docs`, `GET /docs/errors/{code}`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

use super::archive;
use crate::error::{ApiError, ApiResult};
use crate::path::Path;
use crate::state::WebState;

const OPENAPI: &str = "/api/v1/openapi.json";
const MARKDOWN: &str = "text/markdown; charset=utf-8";
/// Where Swagger UI says which document it shows.
const INITIALIZER: &str = "swagger-initializer.js";
const ITS_EXAMPLE: &str = "https://petstore.swagger.io/v2/swagger.json";

/// The files of Swagger UI, unpacked when the first of them is asked for.
static SWAGGER_UI: LazyLock<BTreeMap<&str, Bytes>> = LazyLock::new(|| {
    let mut files = archive::files(SWAGGER_UI_VENDORED, "dist");
    if let Some(file) = files.get_mut(INITIALIZER) {
        *file = String::from_utf8_lossy(file).replace(ITS_EXAMPLE, OPENAPI).into();
    }
    files
});

/// `document` is the OpenAPI document as text.
pub(super) fn routes(document: Bytes) -> Router<Arc<WebState>> {
    let document = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    };
    Router::new()
        .route(OPENAPI, get(document))
        .route("/docs/errors/{code}", get(error_page))
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(|| swagger_ui(Path("index.html".to_owned()))))
        .route("/docs/{*file}", get(swagger_ui))
}

async fn swagger_ui(Path(file): Path<String>) -> ApiResult {
    let content = SWAGGER_UI.get(&*file).ok_or_else(|| ApiError::not_found("this file"))?;
    Ok(([(header::CONTENT_TYPE, content_type(&file))], content.clone()).into_response())
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit_once('.') {
        Some((_, "css")) => "text/css",
        Some((_, "html")) => "text/html",
        Some((_, "js")) => "text/javascript",
        Some((_, "png")) => "image/png",
        _ => "application/octet-stream",
    }
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
    fn swagger_ui_is_whole_and_shows_this_document() {
        let page = String::from_utf8_lossy(&SWAGGER_UI["index.html"]);
        let named = page.split(['"', '\'']).filter_map(|word| word.strip_prefix("./").or(Some(word)));
        let named: Vec<&str> =
            named.filter(|word| content_type(word) != "application/octet-stream").collect();
        assert_eq!(named.len(), 7, "{named:?}");
        for file in named {
            assert!(SWAGGER_UI.contains_key(file), "{file}");
        }
        assert_eq!(SWAGGER_UI.len(), 13, "{:?}", SWAGGER_UI.keys());
        assert!(SWAGGER_UI["swagger-ui-bundle.js"].len() > 1_000_000);
        let initializer = String::from_utf8_lossy(&SWAGGER_UI[INITIALIZER]);
        assert!(initializer.contains(&format!("url: \"{OPENAPI}\",")), "{initializer}");
    }

    #[test]
    fn every_code_has_a_page_that_is_about_it() {
        for code in ErrorCode::ALL {
            let (_, page) = PAGES.iter().find(|(name, _)| *name == code.as_str()).unwrap();
            assert!(page.starts_with(&format!("# `{}`\n\nHTTP status {}.", code.as_str(), code.status())));
            assert!(page.contains("## What to do"), "{}", code.as_str());
        }
    }
}
