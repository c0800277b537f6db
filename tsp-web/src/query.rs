//! Queries, read strictly: an unknown or repeated parameter is refused, and so is a cursor of another list.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use sha2::{Digest, Sha256};
use tsp_api::{ErrorCode, Errors};
use tsp_core::Timestamp;

use crate::error::{ApiError, ApiResult};

/// API.md section 1.
pub const LIMIT_DEFAULT: usize = 50;
pub const LIMIT_MAX: usize = 500;

/// The first byte of every cursor; another one means another format.
const CURSOR_VERSION: u8 = 1;
const CURSOR_HASH_BYTES: usize = 8;

/// The parameters of a query. Ask for each that the operation knows, then call [`Query::finish`].
#[derive(Debug)]
pub struct Query {
    given: BTreeMap<String, String>,
    asked: Vec<&'static str>,
    errors: Errors,
    /// What a cursor is bound to: path and filters.
    filter: [u8; CURSOR_HASH_BYTES],
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.path(), parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub fn parse(path: &str, query: &str) -> Self {
        let mut given = BTreeMap::new();
        let mut errors = Errors::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if given.contains_key(name.as_ref()) {
                errors.add_as(ErrorCode::InvalidQuery, name, "is given more than once");
            } else {
                given.insert(name.into_owned(), value.into_owned());
            }
        }
        let filter = filter_hash(path, &given);
        Self { given, asked: Vec::new(), errors, filter }
    }

    /// The text of a parameter; an empty one counts as given.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.asked.push(name);
        self.given.get(name).cloned()
    }

    /// A parameter read by `read`, whose error becomes its message.
    pub fn read<T, E: ToString>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(name, error.to_string());
                None
            }
        }
    }

    /// Whether a parameter was given at all.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A comma list, each element read by `read`; absent is empty.
    pub fn list<T, E: ToString>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        self.read(name, |text| text.split(',').map(&read).collect::<Result<Vec<T>, E>>()).unwrap_or_default()
    }

    /// `true` or `false`.
    pub fn bool(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be `true` or `false`"),
        })
    }

    /// A time. A blank counts as `+`, because an offset written plainly arrives so.
    pub fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        self.read(name, |text| tsp_api::time::parse_time(&text.replace(' ', "+")))
    }

    /// A whole number within `range`.
    pub fn number(&mut self, name: &'static str, range: std::ops::RangeInclusive<usize>) -> Option<usize> {
        self.read(name, |text| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            number
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// `limit=`, 1 to 500.
    pub fn limit(&mut self) -> usize {
        self.number("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT)
    }

    /// Where the last page of this same list stopped, as [`Self::next_cursor`] was given.
    pub fn cursor(&mut self) -> ApiResult<Option<String>> {
        // A blank one is what `?cursor=$next` makes of no cursor at all.
        let Some(text) = self.text("cursor").filter(|text| !text.is_empty()) else { return Ok(None) };
        let invalid = || {
            ApiError::field(
                ErrorCode::InvalidCursor,
                "cursor",
                "must be the `next_cursor` of this list with the same filters",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|_| invalid())?;
        let (head, position) = bytes.split_at_checked(1 + CURSOR_HASH_BYTES).ok_or_else(invalid)?;
        if head[0] != CURSOR_VERSION || head[1..] != self.filter {
            return Err(invalid());
        }
        String::from_utf8(position.to_vec()).map(Some).map_err(|_| invalid())
    }

    /// The error for a cursor whose position makes no sense.
    pub fn bad_cursor() -> ApiError {
        ApiError::field(ErrorCode::InvalidCursor, "cursor", "must be the `next_cursor` of this list")
    }

    /// A cursor that says where this page stopped.
    pub fn next_cursor(&self, position: &str) -> String {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend_from_slice(&self.filter);
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Notes that a parameter that was read is wrong after all.
    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.errors.add_as(ErrorCode::InvalidQuery, name, message);
    }

    /// 400 if anything is wrong, parameters nobody asked for included.
    pub fn finish(&mut self) -> ApiResult<()> {
        let unknown: Vec<String> =
            self.given.keys().filter(|name| !self.asked.contains(&name.as_str())).cloned().collect();
        for name in unknown {
            self.wrong(&name, "is not a parameter of this call");
        }
        let errors = std::mem::take(&mut self.errors);
        if errors.is_empty() { Ok(()) } else { Err(errors.into()) }
    }
}

/// Everything but the position in the list and the size of the page.
fn filter_hash(path: &str, given: &BTreeMap<String, String>) -> [u8; CURSOR_HASH_BYTES] {
    let mut text = Cow::Borrowed(path).into_owned();
    for (name, value) in given {
        if name != "limit" && name != "cursor" {
            // Lengths keep `a=b&c` apart from `a=b`, `c`.
            let _ = write!(text, "\n{}:{name}={}:{value}", name.len(), value.len());
        }
    }
    let hash = Sha256::digest(text.as_bytes());
    let mut short = [0; CURSOR_HASH_BYTES];
    short.copy_from_slice(&hash[..CURSOR_HASH_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_bad_parameter() {
        let mut query = Query::parse("/x", "limit=0&enabled=yes&from=now&what=1&what=2");
        assert_eq!((query.limit(), query.bool("enabled"), query.time("from")), (LIMIT_DEFAULT, None, None));
        let problem = query.finish().unwrap_err().problem("r");
        assert_eq!(problem.code, ErrorCode::InvalidQuery);
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["what", "limit", "enabled", "from", "what"]);
    }

    #[test]
    fn a_blank_in_a_time_is_a_plus() {
        let mut query = Query::parse("/x", "from=2026-11-21T18:30:00+08:00&to=2026-11-21T18:30:00%2B08:00");
        assert_eq!(query.time("from"), query.time("to"));
        assert!(query.finish().is_ok());
    }

    #[test]
    fn a_cursor_is_bound_to_its_filter() {
        let cursor = Query::parse("/x", "kind=cron&limit=5").next_cursor("last");
        let position = |path: &str, filter: &str| {
            Query::parse(path, &format!("{filter}cursor={cursor}")).cursor().map_err(|error| error.code())
        };
        assert_eq!(position("/x", "limit=9&kind=cron&"), Ok(Some("last".to_owned())));
        assert_eq!(position("/x", ""), Err(ErrorCode::InvalidCursor));
        assert_eq!(position("/y", "kind=cron&"), Err(ErrorCode::InvalidCursor));
        let mut query = Query::parse("/x", "cursor=%00");
        assert!(query.cursor().is_err());
    }
}
