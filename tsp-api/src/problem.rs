//! Errors as callers see them: RFC 9457 documents with a closed list of codes (API.md section 1).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong, for programs. Closed: codes are added, never renamed. Each has a page in `docs/errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    InvalidJson,
    UnknownField,
    InvalidField,
    InvalidQuery,
    InvalidCursor,
    EgressDenied,
    NotSupported,
    Unauthenticated,
    Forbidden,
    Csrf,
    WrongToken,
    NotFound,
    MethodNotAllowed,
    AlreadyExists,
    InUse,
    HasOpenTasks,
    Immutable,
    ConfigDisabled,
    WrongKind,
    InvalidTransition,
    KeyInUse,
    IdempotencyInProgress,
    VersionMismatch,
    TooLarge,
    UnsupportedMediaType,
    IdempotencyMismatch,
    RateLimited,
    Internal,
    Unavailable,
}

impl ErrorCode {
    pub const ALL: [Self; 29] = [
        Self::InvalidJson,
        Self::UnknownField,
        Self::InvalidField,
        Self::InvalidQuery,
        Self::InvalidCursor,
        Self::EgressDenied,
        Self::NotSupported,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Csrf,
        Self::WrongToken,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::AlreadyExists,
        Self::InUse,
        Self::HasOpenTasks,
        Self::Immutable,
        Self::ConfigDisabled,
        Self::WrongKind,
        Self::InvalidTransition,
        Self::KeyInUse,
        Self::IdempotencyInProgress,
        Self::VersionMismatch,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyMismatch,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    /// The HTTP status that always goes with the code.
    pub const fn status(self) -> u16 {
        self.entry().0
    }

    pub const fn as_str(self) -> &'static str {
        self.entry().1
    }

    /// The same words for every occurrence of the code.
    pub const fn title(self) -> &'static str {
        self.entry().2
    }

    /// Where the page about the code is served.
    pub const fn uri(self) -> &'static str {
        self.entry().3
    }

    const fn entry(self) -> (u16, &'static str, &'static str, &'static str) {
        macro_rules! entry {
            ($status:literal, $code:literal, $title:literal) => {
                ($status, $code, $title, concat!("/docs/errors/", $code))
            };
        }
        match self {
            Self::InvalidJson => entry!(400, "invalid_json", "the body is not valid JSON"),
            Self::UnknownField => entry!(400, "unknown_field", "the body has a field that does not exist"),
            Self::InvalidField => entry!(400, "invalid_field", "a field of the request is wrong"),
            Self::InvalidQuery => entry!(400, "invalid_query", "a parameter of the query is wrong"),
            Self::InvalidCursor => entry!(400, "invalid_cursor", "the cursor belongs to another list"),
            Self::EgressDenied => entry!(400, "egress_denied", "callbacks may not go to this address"),
            Self::NotSupported => entry!(400, "not_supported", "this server cannot do that yet"),
            Self::Unauthenticated => entry!(401, "unauthenticated", "valid credentials are needed"),
            Self::Forbidden => entry!(403, "forbidden", "the credentials do not allow this"),
            Self::Csrf => entry!(403, "csrf", "the request did not prove that it comes from the console"),
            Self::WrongToken => entry!(403, "wrong_token", "the completion token is wrong or too old"),
            Self::NotFound => entry!(404, "not_found", "there is no such thing"),
            Self::MethodNotAllowed => entry!(405, "method_not_allowed", "the path has no such method"),
            Self::AlreadyExists => entry!(409, "already_exists", "the name is taken"),
            Self::InUse => entry!(409, "in_use", "something still needs it"),
            Self::HasOpenTasks => entry!(409, "has_open_tasks", "the config still has open tasks"),
            Self::Immutable => entry!(409, "immutable", "the field never changes"),
            Self::ConfigDisabled => entry!(409, "config_disabled", "the config takes no tasks now"),
            Self::WrongKind => entry!(409, "wrong_kind", "the config is of the other kind"),
            Self::InvalidTransition => entry!(409, "invalid_transition", "the task cannot do that now"),
            Self::KeyInUse => entry!(409, "key_in_use", "another open task holds the key"),
            Self::IdempotencyInProgress => {
                entry!(409, "idempotency_in_progress", "the same request is being worked on")
            }
            Self::VersionMismatch => entry!(412, "version_mismatch", "the config was changed meanwhile"),
            Self::TooLarge => entry!(413, "too_large", "the body is too large"),
            Self::UnsupportedMediaType => {
                entry!(415, "unsupported_media_type", "the body is not declared as JSON")
            }
            Self::IdempotencyMismatch => {
                entry!(422, "idempotency_mismatch", "the idempotency key was used for another request")
            }
            Self::RateLimited => entry!(429, "rate_limited", "too many requests"),
            Self::Internal => entry!(500, "internal", "something is wrong with the server"),
            Self::Unavailable => entry!(503, "unavailable", "the server cannot do this right now"),
        }
    }
}

/// One bad field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where it stands, such as `retry.backoff.delays[2]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The body of every answer from 400 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The page about the code, relative to this server.
    #[serde(rename = "type")]
    pub uri: String,
    pub title: String,
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    pub code: ErrorCode,
    /// Every bad field, where the request itself is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Also in `X-Request-Id`, and in the server's log.
    pub request_id: String,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self {
            uri: code.uri().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            request_id: request_id.into(),
        }
    }
}

/// Collects everything that is wrong with a request, so that one answer names it all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors {
    found: Vec<(ErrorCode, FieldError)>,
}

impl Errors {
    pub fn new() -> Self {
        Self::default()
    }

    /// A field with a wrong value.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add_as(ErrorCode::InvalidField, field, message);
    }

    /// A field that is wrong in a way that has its own code.
    pub fn add_as(&mut self, code: ErrorCode, field: impl Into<String>, message: impl Into<String>) {
        self.found.push((code, FieldError { field: field.into(), message: message.into() }));
    }

    /// A field that must be there; nothing is added if something is wrong with it, or in it, already.
    pub fn missing(&mut self, field: &str) {
        let is_within = |other: &str| {
            other.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !self.found.iter().any(|(_, error)| is_within(&error.field)) {
            self.add(field, "is missing");
        }
    }

    pub fn has(&self, field: &str) -> bool {
        self.found.iter().any(|(_, error)| error.field == field)
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The names of the bad fields, outermost level only: `retry` for `retry.backoff.delays[2]`.
    pub fn outermost(&self) -> impl Iterator<Item = &str> {
        self.found.iter().filter_map(|(_, error)| error.field.split(['.', '[']).next())
    }

    /// The code of the whole answer: the most basic of those found. `None` when nothing is wrong.
    pub fn code(&self) -> Option<ErrorCode> {
        let rank = |code: ErrorCode| ErrorCode::ALL.iter().position(|&other| other == code);
        self.found.iter().map(|(code, _)| *code).min_by_key(|&code| rank(code))
    }

    pub fn into_fields(self) -> Vec<FieldError> {
        self.found.into_iter().map(|(_, error)| error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_and_named_as_serialised() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..=503).contains(&code.status()));
            assert!(code.uri().ends_with(code.as_str()));
            assert!(!code.title().ends_with('.') && !code.title().starts_with(char::is_uppercase));
        }
    }

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors");
        let mut pages: Vec<String> = std::fs::read_dir(folder)
            .expect("docs/errors exists")
            .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
            .collect();
        let mut codes: Vec<String> =
            ErrorCode::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
        pages.sort();
        codes.sort();
        assert_eq!(pages, codes);
    }

    #[test]
    fn the_most_basic_code_stands_for_all() {
        let mut errors = Errors::new();
        assert_eq!(errors.code(), None);
        errors.add_as(ErrorCode::NotSupported, "join", "x");
        errors.add("name", "x");
        errors.add("retry.backoff.type", "x");
        for field in ["name", "retry", "ret"] {
            errors.missing(field);
        }
        assert_eq!(errors.code(), Some(ErrorCode::InvalidField));
        assert_eq!(errors.outermost().collect::<Vec<_>>(), ["join", "name", "retry", "ret"]);
    }
}
