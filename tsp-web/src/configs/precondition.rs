//! `If-Match` and `If-None-Match` (API.md section 1, optimistic concurrency).

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderName, header};
use tsp_api::ErrorCode;
use tsp_core::config::TaskConfig;

use crate::error::{ApiError, ApiResult};

/// What must be true of the config before it is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Precondition {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    /// As sent, with quotes; weak ones never match a strong comparison.
    OneOf(Vec<String>),
}

impl<S: Send + Sync> FromRequestParts<S> for Precondition {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let tags = |name: HeaderName| {
            let value = parts.headers.get(name)?;
            let text = String::from_utf8_lossy(value.as_bytes());
            Some(match text.trim() {
                "*" => Tags::Any,
                list => Tags::OneOf(list.split(',').map(|tag| tag.trim().to_owned()).collect()),
            })
        };
        Ok(Self { if_match: tags(header::IF_MATCH), if_none_match: tags(header::IF_NONE_MATCH) })
    }
}

impl Precondition {
    pub(super) fn is_given(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some()
    }

    /// 412 unless it holds for the config as it is.
    pub(super) fn check(&self, config: Option<&TaskConfig>) -> ApiResult<()> {
        let version = config.map(|config| config.version);
        let matches = self.if_match.as_ref().is_none_or(|tags| tags.include(version));
        let differs = self.if_none_match.as_ref().is_none_or(|tags| !tags.include(version));
        if matches && differs { Ok(()) } else { Err(Self::failed()) }
    }

    pub(super) fn failed() -> ApiError {
        ApiError::new(
            ErrorCode::VersionMismatch,
            "the config is not at the version that the request expects; read it again",
        )
    }
}

impl Tags {
    fn include(&self, version: Option<i64>) -> bool {
        match (self, version) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(tags), Some(version)) => tags.contains(&format!("\"{version}\"")),
        }
    }
}
