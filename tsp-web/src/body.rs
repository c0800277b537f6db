//! Bodies: JSON, read strictly, with every wrong field named.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout_at};
use tsp_api::{ErrorCode, Errors, json};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult, Finish};
use crate::room::Room;
use crate::schema_check;
use crate::state::WebState;

/// Longer than the largest batch takes on a slow line.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);
/// A body that stands still keeps its memory for no longer.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// A body of which nothing has been read yet. A handler reads it once it knows that the caller may send it, so
/// that nobody fills the memory with what will be refused.
#[derive(Debug)]
pub struct UnreadBody {
    content_type: Option<HeaderValue>,
    body: Body,
    bytes_max: usize,
    room: Room,
}

/// A JSON document. What has the wrong shape was left out of `value` and stands in `errors`, so that what
/// the handler finds wrong with the rest is reported in the same answer.
#[derive(Debug)]
pub struct Json<T> {
    pub value: T,
    pub errors: Errors,
    /// As it was sent, for idempotency keys and raw payloads.
    pub raw: Bytes,
}

impl FromRequest<Arc<WebState>> for UnreadBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &Arc<WebState>) -> Result<Self, Infallible> {
        let (mut parts, body) = request.into_parts();
        Ok(Self {
            content_type: parts.headers.remove(header::CONTENT_TYPE),
            body,
            bytes_max: state.settings.body_bytes_max(),
            room: state.room.clone(),
        })
    }
}

impl UnreadBody {
    /// With another bound than [`crate::WebSettings::body_bytes_max`].
    #[must_use]
    pub fn at_most(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// The whole body, which must be declared as JSON.
    pub async fn raw_json(self) -> ApiResult<Bytes> {
        require_json(self.content_type.as_ref())?;
        self.bytes().await
    }

    pub async fn json<T: DeserializeOwned + ToSchema>(self) -> ApiResult<Json<T>> {
        Json::parse(self.raw_json().await?)
    }

    /// As [`Self::json`], and an empty body, with or without a content type, is `{}`, as is `null`.
    pub async fn optional_json<T: DeserializeOwned + ToSchema>(self) -> ApiResult<Json<T>> {
        let declared = self.content_type.is_some();
        if declared {
            require_json(self.content_type.as_ref())?;
        }
        let raw = self.bytes().await?;
        if raw.is_empty() || (declared && raw.trim_ascii() == b"null") {
            return Json::parse(Bytes::from_static(b"{}"));
        }
        if declared { Json::parse(raw) } else { Err(not_json()) }
    }

    /// `command`, if the optional document `T` that asks for it passes the schema check.
    pub async fn asks<T: DeserializeOwned + ToSchema, W>(self, command: W) -> ApiResult<W> {
        self.optional_json::<T>().await?.checked().map(|_| command)
    }

    /// The whole body, whatever it is.
    pub async fn bytes(self) -> ApiResult<Bytes> {
        read_all(self.body, self.bytes_max, &self.room).await
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
        let errors = schema_check::drop_unknown::<T>(&mut tree);
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

    /// The document, if it passes the schema check.
    pub fn checked(self) -> ApiResult<T> {
        if self.errors.is_empty() { Ok(self.value) } else { Err(self.errors.into()) }
    }
}

/// Members that stand twice: what they say depends on who reads them, so that nothing is read at all.
pub(crate) fn refuse_doubles(raw: &[u8]) -> ApiResult<()> {
    let mut errors = Errors::new();
    // What is no JSON is reported by its reader.
    add_doubles("", str::from_utf8(raw).unwrap_or_default(), &mut errors);
    errors.finish()
}

/// As [`refuse_doubles`], of a value that stands at `place` in a body.
pub(crate) fn add_doubles(place: &str, text: &str, errors: &mut Errors) {
    for field in json::duplicates_below(place, text, DOUBLES_NAMED_MAX).unwrap_or_default() {
        errors.add(field, DOUBLE);
    }
}

/// The error of a member that stands twice.
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
fn require_json(content_type: Option<&HeaderValue>) -> ApiResult<()> {
    let declared = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
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
async fn read_all(mut body: Body, bytes_max: usize, room: &Room) -> ApiResult<Bytes> {
    let too_large =
        || ApiError::new(ErrorCode::TooLarge, format!("the body may have at most {bytes_max} bytes"));
    let incomplete = |why| ApiError::new(ErrorCode::InvalidJson, why);
    let declared = HttpBody::size_hint(&body).lower();
    if usize::try_from(declared).map_or(true, |length| length > bytes_max) {
        return Err(too_large());
    }
    let whole_until = Instant::now() + WHOLE_WITHIN;
    let (mut whole, mut place) = (Vec::new(), room.enter());
    loop {
        let part_until = whole_until.min(Instant::now() + PART_WITHIN);
        let frame = match timeout_at(part_until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(incomplete("the body ended before it was complete")),
            Ok(None) => return Ok(place.fill(whole.into())),
            Err(_) if Instant::now() >= whole_until => {
                return Err(incomplete("the body was not complete within two minutes"));
            }
            Err(_) => return Err(incomplete("nothing more of the body came for 30 seconds")),
        };
        // Trailers are read over.
        let Ok(part) = frame.into_data() else { continue };
        let length = whole.len() + part.len();
        if length > bytes_max {
            return Err(too_large());
        }
        if whole.is_empty() && HttpBody::is_end_stream(&body) {
            place.grow(length)?;
            return Ok(place.fill(part));
        }
        if length > whole.capacity() {
            let capacity = length.max(2 * whole.capacity()).min(bytes_max);
            place.grow(capacity)?;
            whole.reserve_exact(capacity - whole.len());
        }
        whole.extend_from_slice(&part);
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
        const PART: Bytes = Bytes::from_static(b"{");
        let still = futures::stream::iter([Ok::<_, std::io::Error>(PART)]).chain(futures::stream::pending());
        let ticks = tokio::time::interval(PART_WITHIN / 2);
        let slow = futures::stream::unfold(ticks, async |mut ticks| {
            ticks.tick().await;
            Some((Ok::<_, std::io::Error>(PART), ticks))
        });
        let room = Room::default();
        for (body, says) in
            [(Body::from_stream(still), "30 seconds"), (Body::from_stream(slow), "two minutes")]
        {
            let error = read_all(body, 100, &room).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidJson);
            assert!(error.detail().contains(says), "{}", error.detail());
        }
    }

    #[tokio::test]
    async fn parts_make_a_whole_up_to_the_bound() {
        let parts = |count: usize| {
            let part = |_| Ok::<_, std::io::Error>(Bytes::from_static(b"ab"));
            Body::from_stream(futures::stream::iter((0..count).map(part)))
        };
        let room = Room::of(7, 0);
        assert_eq!(read_all(parts(3), 6, &room).await.unwrap(), "ababab");
        assert_eq!(read_all(Body::from("abc"), 3, &room).await.unwrap(), "abc");
        assert_eq!(read_all(Body::empty(), 3, &room).await.unwrap(), "");
        assert_eq!(read_all(parts(4), 7, &room).await.unwrap_err().code(), ErrorCode::TooLarge);
        assert_eq!(read_all(Body::from("abcd"), 3, &room).await.unwrap_err().code(), ErrorCode::TooLarge);
        assert_eq!(read_all(parts(4), 8, &room).await.unwrap_err().code(), ErrorCode::Unavailable);
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
        assert!(require_json(None).is_err());
        for (declared, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let declared = HeaderValue::from_static(declared);
            assert_eq!(require_json(Some(&declared)).is_ok(), good, "{declared:?}");
        }
    }
}
