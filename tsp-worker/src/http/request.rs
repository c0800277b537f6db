//! The request of one attempt (API.md section 5).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use bytes::{Bytes, BytesMut};
use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tsp_consumer_core::TaskContext;
use tsp_core::entropy::Entropy;
use tsp_core::task::Task;

use super::sign::Signer;
use super::target::{PreparedTarget, TargetError, given, user_header};
use super::traceparent;

/// The names of the headers that this service sets.
pub(super) mod names {
    use http::header::HeaderName;

    pub(in crate::http) const APP: HeaderName = HeaderName::from_static("tsp-app");
    pub(in crate::http) const CONFIG: HeaderName = HeaderName::from_static("tsp-config");
    pub(super) const TASK_ID: HeaderName = HeaderName::from_static("tsp-task-id");
    pub(super) const KEY: HeaderName = HeaderName::from_static("tsp-key");
    pub(super) const ATTEMPT: HeaderName = HeaderName::from_static("tsp-attempt");
    pub(super) const EXECUTE_AT: HeaderName = HeaderName::from_static("tsp-execute-at");
    pub(super) const SHARDING_ID: HeaderName = HeaderName::from_static("tsp-sharding-id");
    pub(super) const SHARDING_COUNT: HeaderName = HeaderName::from_static("tsp-sharding-count");
    pub(super) const PARENT_ID: HeaderName = HeaderName::from_static("tsp-parent-id");
    pub(super) const COMPLETION_TOKEN: HeaderName = HeaderName::from_static("tsp-completion-token");
    pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
    pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
    pub(super) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
    pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
}

/// Room for the values of one request; more is allocated for long keys and several signatures.
const VALUES_BYTES: usize = 320;
/// Headers that an attempt adds to those of its config, the task's own aside.
const ADDED_HEADERS: usize = 15;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Builds the request. Fails on a header that no request can hold.
pub(super) fn build(
    target: &PreparedTarget,
    call: &TaskContext,
    entropy: &dyn Entropy,
) -> Result<Request<Full<Bytes>>, TargetError> {
    let body = body(target, &call.task);
    let own = call.task.extra.as_ref().map(|extra| &extra.headers);
    let mut headers =
        HeaderMap::with_capacity(target.headers.len() + ADDED_HEADERS + own.map_or(0, BTreeMap::len));
    for (name, value) in &target.headers {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in own.into_iter().flat_map(given) {
        let (name, value) = user_header(name, value)?;
        headers.insert(name, value);
    }
    if body.is_empty() {
        headers.remove(CONTENT_TYPE);
        if target.sends_body {
            // Some servers answer 411 to a POST that does not say that its body is empty.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let mut values = Values(BytesMut::with_capacity(VALUES_BYTES));
    let id = values.display(call.task.id)?;
    add_task(&mut headers, call, &id, &mut values)?;
    traceparent::write(&call.task, call.now, entropy, &mut values.0);
    headers.insert(names::TRACEPARENT, values.take()?);
    if let Some(signer) = &target.signer {
        add_signature(&mut headers, signer, call, id, &body, &mut values)?;
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = target.method.clone();
    *request.uri_mut() = target.uri.clone();
    *request.headers_mut() = headers;
    Ok(request)
}

/// The payload byte for byte: the task's, else the config's default.
fn body(target: &PreparedTarget, task: &Task) -> Bytes {
    if !target.sends_body {
        return Bytes::new();
    }
    task.payload.as_ref().or(target.payload.as_ref()).cloned().unwrap_or_default()
}

fn add_task(
    headers: &mut HeaderMap,
    call: &TaskContext,
    id: &HeaderValue,
    values: &mut Values,
) -> Result<(), TargetError> {
    let task = &call.task;
    headers.insert(names::TASK_ID, id.clone());
    headers.insert(names::IDEMPOTENCY_KEY, id.clone());
    headers.insert(names::ATTEMPT, values.display(task.attempt)?);
    headers.insert(names::EXECUTE_AT, values.display(task.execute_at)?);
    headers.insert(names::SHARDING_ID, values.display(task.sharding_id)?);
    headers.insert(names::SHARDING_COUNT, values.display(task.sharding_count)?);
    if let Some(key) = &task.key {
        headers.insert(names::KEY, values.display(utf8_percent_encode(key.as_str(), RESERVED))?);
    }
    if let Some(parent) = task.parent {
        headers.insert(names::PARENT_ID, values.display(parent)?);
    }
    if let Some(token) = call.completion_token.as_deref() {
        let mut token = HeaderValue::from_str(token).map_err(|_| TargetError::Token)?;
        token.set_sensitive(true);
        headers.insert(names::COMPLETION_TOKEN, token);
    }
    Ok(())
}

fn add_signature(
    headers: &mut HeaderMap,
    signer: &Signer,
    call: &TaskContext,
    id: HeaderValue,
    body: &[u8],
    values: &mut Values,
) -> Result<(), TargetError> {
    let seconds = values.display(call.now.ms().div_euclid(1_000))?;
    signer.sign(id.as_bytes(), seconds.as_bytes(), body, &mut values.0);
    headers.insert(names::WEBHOOK_SIGNATURE, values.take()?);
    headers.insert(names::WEBHOOK_ID, id);
    headers.insert(names::WEBHOOK_TIMESTAMP, seconds);
    Ok(())
}

/// Writes all values of a request into one allocation, of which each is a slice.
struct Values(BytesMut);

impl Values {
    fn display(&mut self, value: impl fmt::Display) -> Result<HeaderValue, TargetError> {
        // Writing into memory does not fail.
        let _ = write!(self.0, "{value}");
        self.take()
    }

    /// What was written since the last value.
    fn take(&mut self) -> Result<HeaderValue, TargetError> {
        HeaderValue::from_maybe_shared(self.0.split().freeze())
            .map_err(|error| TargetError::Header { name: "tsp-*".to_owned(), problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use tsp_core::config::{Secret, TaskConfig};
    use tsp_core::ids::TaskId;
    use tsp_core::outcome::Outcome;

    use super::*;
    use crate::http::fixtures::{Seeded, config, context, edit_target, task};
    use crate::http::{ClientSettings, HttpHandler};

    fn built(
        config: &TaskConfig,
        task: &Task,
        token: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, TargetError> {
        let handler = HttpHandler::new(&ClientSettings::default(), Arc::new(Seeded)).unwrap();
        let call = TaskContext { completion_token: token.map(Into::into), ..context(task, config) };
        handler.request(&*handler.prepare(config)?, &call)
    }

    fn header<'a>(request: &'a Request<Full<Bytes>>, name: &str) -> Option<&'a str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn it_carries_what_the_contract_says() {
        let mut task = task();
        task.parent = Some(TaskId::new(7_300));
        let request = built(&config("http://example.com:8080/close?x=1#f"), &task, Some("secret")).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/close?x=1"));
        for (name, value) in [
            ("host", "example.com:8080"),
            ("user-agent", concat!("tsp/", env!("CARGO_PKG_VERSION"))),
            ("content-type", "application/json"),
            ("tsp-task-id", "7301"),
            ("tsp-app", "trade"),
            ("tsp-config", "close-order"),
            ("tsp-key", "order%2042%2F%C3%BC"),
            ("tsp-attempt", "2"),
            ("tsp-execute-at", "2026-11-21T10:30:00.000Z"),
            ("tsp-sharding-id", "0"),
            ("tsp-sharding-count", "1"),
            ("tsp-parent-id", "7300"),
            ("tsp-completion-token", "secret"),
            ("idempotency-key", "7301"),
            ("traceparent", "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-00"),
        ] {
            assert_eq!(header(&request, name), Some(value), "{name}");
        }
        assert_eq!(header(&request, "webhook-id"), None);
    }

    #[test]
    fn it_is_signed_over_the_bytes_that_are_sent() {
        let mut config = config("http://example.com/");
        config.spec.signing_secrets = vec![Secret::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];
        let request = built(&config, &task(), None).unwrap();
        assert_eq!(header(&request, "webhook-id"), Some("7301"));
        assert_eq!(header(&request, "webhook-timestamp"), Some("1795257000"));
        let mut expected = BytesMut::new();
        let signer = Signer::new(&config.spec.signing_secrets).unwrap().unwrap();
        signer.sign(b"7301", b"1795257000", br#"{"order":42}"#, &mut expected);
        assert_eq!(request.headers()["webhook-signature"].as_bytes(), expected);
    }

    #[test]
    fn headers_of_the_task_win_over_secret_ones_over_the_configs() {
        let mut config = config("http://example.com/");
        edit_target(&mut config, |target| {
            for (name, value) in [("X-A", "config"), ("X-B", "config"), ("X-C", "config")] {
                target.headers.insert(name.to_owned(), value.to_owned());
            }
            target.headers.insert("content-type".to_owned(), "text/plain".to_owned());
            target.secret_headers.insert("x-b".to_owned(), Secret::new("secret"));
            target.secret_headers.insert("x-c".to_owned(), Secret::new("secret"));
        });
        let mut task = task();
        task.extra_mut().headers.insert("x-C".to_owned(), "task".to_owned());
        let request = built(&config, &task, None).unwrap();
        let of = |name| header(&request, name).unwrap();
        assert_eq!((of("x-a"), of("x-b"), of("x-c")), ("config", "secret", "task"));
        assert_eq!(of("content-type"), "text/plain");
        assert!(!format!("{:?}", request.headers()).contains("secret"));

        for name in ["tsp-attempt", "Idempotency_Key", "tsp.task.id"] {
            task.extra_mut().headers.insert(name.to_owned(), "9".to_owned());
        }
        let request = built(&config, &task, None).unwrap();
        assert!(request.headers().values().all(|value| value != "9"), "{request:?}");

        task.extra_mut().headers.insert("x-d".to_owned(), "ü".to_owned());
        let refused = built(&config, &task, None).unwrap_err().verdict();
        assert_eq!((refused.outcome, &*refused.reason), (Outcome::Fail, "invalid_header"));
    }

    #[tokio::test]
    async fn bodies_and_their_type() {
        use http_body_util::BodyExt as _;

        let mut config = config("http://example.com/");
        let mut task = task();
        for method in ["GET", "HEAD"] {
            edit_target(&mut config, |target| method.clone_into(&mut target.method));
            let request = built(&config, &task, None).unwrap();
            assert_eq!(header(&request, "content-type"), None);
            assert!(request.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
        edit_target(&mut config, |target| "PUT".clone_into(&mut target.method));
        task.payload = None;
        let request = built(&config, &task, None).unwrap();
        assert_eq!(header(&request, "content-type"), None);
        assert_eq!(header(&request, "content-length"), Some("0"));
        config.spec.payload = Some(Bytes::from_static(b"[1]"));
        config.version += 1;
        let request = built(&config, &task, None).unwrap();
        assert_eq!(header(&request, "content-type"), Some("application/json"));
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "[1]");
    }

    #[test]
    fn a_target_that_cannot_be_called_is_final() {
        for (url, method, secret, reason) in [
            ("http://127.0.0.1/", "POST", None, "egress_denied"),
            ("file:///", "POST", None, "egress_denied"),
            ("http://example.com/", "CONNECT", None, "invalid_target"),
            ("http://example.com/", "PO ST", None, "invalid_target"),
            ("http://example.com/", "POST", Some("nonsense"), "invalid_target"),
        ] {
            let mut config = config(url);
            edit_target(&mut config, |target| method.clone_into(&mut target.method));
            config.spec.signing_secrets = secret.into_iter().map(Secret::new).collect();
            let verdict = built(&config, &task(), None).unwrap_err().verdict();
            assert_eq!((verdict.outcome, &*verdict.reason), (Outcome::Fail, reason), "{url} {method}");
        }
    }
}
