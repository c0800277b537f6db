//! Bodies: JSON, read strictly, with every wrong field named.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::{Duration, timeout};
use tsp_api::{ErrorCode, Errors, json};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult, Finish};
use crate::shape;
use crate::state::WebState;

/// Longer than the largest batch takes on a slow line.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);

/// The whole body, declared as JSON and at most as long as [`crate::WebSettings::body_bytes_max`].
#[derive(Debug, Clone)]
pub struct RawJson(pub Bytes);

/// A JSON document. What has the wrong shape was left out of `value` and stands in `errors`, so that what
/// the handler finds wrong with the rest is told in the same answer.
#[derive(Debug)]
pub struct Json<T> {
    pub value: T,
    pub errors: Errors,
    /// As it was sent, for idempotency keys and raw payloads.
    pub raw: Bytes,
}

/// As [`Json`], and an empty body, with or without a content type, is `{}`, as is `null`.
#[derive(Debug)]
pub struct OptionalJson<T>(pub Json<T>);

impl FromRequest<Arc<WebState>> for RawJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        Ok(Self(read_all(request.into_body(), state.settings.body_bytes_max()).await?))
    }
}

impl<T: DeserializeOwned + ToSchema> FromRequest<Arc<WebState>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, ApiError> {
        let RawJson(raw) = RawJson::from_request(request, state).await?;
        Self::parse(raw)
    }
}

impl<T: DeserializeOwned + ToSchema> FromRequest<Arc<WebState>> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, ApiError> {
        let declared = request.headers().contains_key(header::CONTENT_TYPE);
        if declared {
            require_json(request.headers())?;
        }
        let raw = read_all(request.into_body(), state.settings.body_bytes_max()).await?;
        if raw.is_empty() || (declared && raw.trim_ascii() == b"null") {
            return Json::parse(Bytes::from_static(b"{}")).map(Self);
        }
        if declared { Json::parse(raw).map(Self) } else { Err(not_json()) }
    }
}

impl<T: DeserializeOwned + ToSchema> Json<T> {
    pub fn parse(raw: Bytes) -> ApiResult<Self> {
        refuse_doubles(&raw)?;
        // A derived reader would also take the fields' values in an array.
        if !raw.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&raw).is_ok() {
            return Err(ApiError::new(ErrorCode::InvalidField, "the body must be an object"));
        }
        let read = serde_json::from_slice::<T>(&raw).map_err(|error| invalid_json(&error));
        // It would do so for an inner object as well, so that arrays need a closer look.
        if read.is_ok() && !raw.contains(&b'[') {
            return read.map(|value| Self { value, errors: Errors::new(), raw });
        }
        let Some(mut tree) = str::from_utf8(&raw).ok().and_then(|text| json::tree(text).ok()) else {
            return read.map(|value| Self { value, errors: Errors::new(), raw });
        };
        let errors = shape::prune::<T>(&mut tree);
        if errors.is_empty() {
            // If it could not be read: a number or half a character that no field can hold.
            return read.map(|value| Self { value, errors, raw });
        }
        if let Ok(value) = read_tree(&tree) {
            return Ok(Self { value, errors, raw });
        }
        // A part without which its whole cannot be read: leave out the whole.
        if let Value::Object(fields) = &mut tree {
            errors.outermost().for_each(|name| drop(fields.remove(name)));
        }
        match read_tree(&tree) {
            Ok(value) => Ok(Self { value, errors, raw }),
            Err(_) => Err(errors.into()),
        }
    }

    /// `wish`, if nothing is wrong with the shape of the document that asks for it.
    pub fn asks<W>(self, wish: W) -> ApiResult<W> {
        self.checked().map(|_| wish)
    }

    /// The document, if nothing is wrong with its shape.
    pub fn checked(self) -> ApiResult<T> {
        if self.errors.is_empty() { Ok(self.value) } else { Err(self.errors.into()) }
    }
}

/// Members that stand twice: what they say depends on who reads them, so that nothing is read at all.
pub(crate) fn refuse_doubles(raw: &[u8]) -> ApiResult<()> {
    let mut errors = Errors::new();
    // What is no JSON is told by its reader.
    add_doubles("", str::from_utf8(raw).unwrap_or_default(), &mut errors);
    errors.finish()
}

/// As [`refuse_doubles`], of a value that stands at `place` in a body.
pub(crate) fn add_doubles(place: &str, text: &str, errors: &mut Errors) {
    for field in json::duplicates_below(place, text, DOUBLES_NAMED_MAX).unwrap_or_default() {
        errors.add(field, DOUBLE);
    }
}

/// What is said of a member that stands twice.
pub(crate) const DOUBLE: &str = "is there twice; leave one of them out";
/// So many are named.
const DOUBLES_NAMED_MAX: usize = 10;

/// Through text, because raw values cannot be read from a tree.
fn read_tree<T: DeserializeOwned>(tree: &Value) -> serde_json::Result<T> {
    serde_json::from_str(&tree.to_string())
}

fn invalid_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorCode::InvalidJson, error.to_string())
}

/// 415 unless the content type is `application/json` or a dialect of it.
pub fn require_json(headers: &HeaderMap) -> ApiResult<()> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = declared.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = media_type.split_once('/').unwrap_or_default();
    let dialect = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    if kind.eq_ignore_ascii_case("application") && dialect.eq_ignore_ascii_case("json") {
        Ok(())
    } else {
        Err(not_json())
    }
}

fn not_json() -> ApiError {
    ApiError::new(ErrorCode::UnsupportedMediaType, "send JSON with `Content-Type: application/json`")
}

/// The whole body, or 413. A declared length is believed, so that nothing is read in vain.
pub async fn read_all(body: Body, bytes_max: usize) -> ApiResult<Bytes> {
    let too_large =
        || ApiError::new(ErrorCode::TooLarge, format!("the body may have at most {bytes_max} bytes"));
    let declared = HttpBody::size_hint(&body).lower();
    if usize::try_from(declared).map_or(true, |length| length > bytes_max) {
        return Err(too_large());
    }
    let incomplete = |why| ApiError::new(ErrorCode::InvalidJson, why);
    match timeout(WHOLE_WITHIN, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(incomplete("the body ended before it was complete")),
        Err(_) => Err(incomplete("the body was not complete within two minutes")),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Doc {
        #[serde(default)]
        name: Option<String>,
    }

    #[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Nested {
        inner: Inner,
    }

    #[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        numbers: Vec<u32>,
    }

    #[test]
    fn an_array_is_no_object_however_deep() {
        let parse = |body: &'static str| Json::<Nested>::parse(Bytes::from_static(body.as_bytes())).unwrap();
        assert_eq!(parse(r#"{"inner": {"numbers": [1]}}"#).errors.code(), None);
        assert_eq!(parse(r#"{"inner": {"numbers": [1]}}"#).value.inner.numbers, [1]);
        assert_eq!(parse(r#"{"inner": []}"#).errors.code(), Some(ErrorCode::InvalidField));
        assert_eq!(parse(r#"{"inner": [[1]]}"#).errors.code(), Some(ErrorCode::InvalidField));
    }

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    struct Carrier {
        #[schema(value_type = Option<serde_json::Value>)]
        payload: Option<Box<serde_json::value::RawValue>>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[test]
    fn what_no_tree_can_hold_is_looked_at_all_the_same() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        for payload in ["1e400", "\"\\ud800\"", &deep] {
            let parse = |inner: &str| {
                let body = format!("{{\"payload\":{payload},\"inner\":{inner}}}");
                Json::<Carrier>::parse(body.into()).unwrap()
            };
            let good = parse("{\"numbers\":[1]}");
            assert_eq!(good.errors.code(), None);
            assert_eq!(good.value.payload.unwrap().get(), payload);
            assert_eq!(good.value.inner.unwrap().numbers, [1]);
            // A derived reader takes an array for an object.
            let bad = parse("[[1]]").errors.into_fields();
            assert_eq!(bad.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["inner"]);
        }
    }

    #[test]
    fn members_that_stand_twice_are_named_wherever_they_are() {
        let fields = |body: &'static str| {
            let error = Json::<Carrier>::parse(Bytes::from_static(body.as_bytes())).unwrap_err();
            let problem = error.problem("");
            problem.errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(fields("{\"payload\":[{\"a\":1,\"\\u0061\":2}]}"), ["payload[0].a"]);
        assert_eq!(fields("{\"inner\":{},\"inner\":{},\"payload\":{\"\":1,\"\":1}}"), ["payload.", "inner"]);
        assert_eq!(fields("{\"more\":{\"a\":1,\"a\":1e400}}"), ["more.a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_body_is_not_waited_for_forever() {
        use futures::StreamExt as _;
        let half = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let body = Body::from_stream(half.chain(futures::stream::pending()));
        let error = read_all(body, 100).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidJson);
        assert!(error.detail().contains("two minutes"), "{}", error.detail());
    }

    fn code(body: &'static str) -> Option<ErrorCode> {
        match Json::<Doc>::parse(Bytes::from_static(body.as_bytes())) {
            Ok(json) => json.errors.code(),
            Err(error) => Some(error.code()),
        }
    }

    #[test]
    fn tells_bad_json_from_bad_fields() {
        assert_eq!(code("{"), Some(ErrorCode::InvalidJson));
        assert_eq!(code(""), Some(ErrorCode::InvalidJson));
        assert_eq!(code("{\"name\":\"a\",\"name\":\"b\"}"), Some(ErrorCode::InvalidField));
        assert_eq!(code("{\"name\": 1}"), Some(ErrorCode::InvalidField));
        assert_eq!(code("[]"), Some(ErrorCode::InvalidField));
        assert_eq!(code("{\"x\": 1}"), Some(ErrorCode::UnknownField));
        assert_eq!(code("{\"name\": null}"), None);
        let json = Json::<Doc>::parse(Bytes::from_static(b"{\"name\":\"a\",\"x\":1}")).unwrap();
        assert_eq!(json.value.name.as_deref(), Some("a"));
    }

    #[test]
    fn only_json_is_read() {
        let mut headers = HeaderMap::new();
        assert!(require_json(&headers).is_err());
        for (declared, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            headers.insert(header::CONTENT_TYPE, declared.parse().unwrap());
            assert_eq!(require_json(&headers).is_ok(), good, "{declared}");
        }
    }
}
