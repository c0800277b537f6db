//! One call: written, sent, and tried again where that is safe.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Inner;
use crate::error::{Error, Refusal, Result};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A call that is not sent yet.
pub struct Request {
    client: Arc<Inner>,
    method: Method,
    url: Result<Url>,
    headers: HeaderMap,
    body: Option<Bytes>,
    /// Whether it may be sent twice: it then happens once all the same.
    repeatable: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An answer with a status below 400.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// # Errors
    /// [`Error::Unreadable`] when the body is not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Unreadable { status: self.status, why: error.to_string() })
    }
}

impl Request {
    pub(crate) fn new(client: Arc<Inner>, method: Method, url: Result<Url>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &client.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Self { client, method, url, headers, body: None, repeatable: false }
    }

    #[cfg(test)]
    pub(crate) fn url(self) -> Result<Url> {
        self.url
    }

    /// Adds a pair to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(url) = &mut self.url {
            url.query_pairs_mut().append_pair(name, value);
        }
        self
    }

    /// Sets a header, `If-Match` for example.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.insert(name, value);
            }
            Err(_) => self.url = Err(Error::Usage(format!("header `{name}` may hold only printable ascii"))),
        }
        self
    }

    /// Sends it under an `Idempotency-Key`: it happens once, however often it is sent, and so it is
    /// tried again by itself.
    #[must_use]
    pub fn once(self, idempotency_key: &str) -> Self {
        self.header(IDEMPOTENCY_KEY, idempotency_key).repeatable(true)
    }

    #[must_use]
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        let written = serde_json::to_vec(body);
        match written {
            Ok(bytes) => self.body(Bytes::from(bytes), "application/json"),
            Err(error) => Self { url: Err(Error::Usage(format!("the body is no json: {error}"))), ..self },
        }
    }

    #[must_use]
    pub fn body(mut self, body: Bytes, content_type: &'static str) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = Some(body);
        self
    }

    pub(crate) fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable |= repeatable;
        self
    }

    /// # Errors
    /// As all calls: [`Error`]; an answer of 400 or above is [`Error::Refused`].
    pub async fn send(self) -> Result<Answer> {
        let Self { client, method, url, headers, body, repeatable } = self;
        let url = url?;
        let salt = headers.get(IDEMPOTENCY_KEY).map_or(&[][..], HeaderValue::as_bytes).to_vec();
        let mut tried = 0;
        loop {
            let mut request = client.http.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let error = match try_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = if repeatable { client.retry.wait(&error, tried, &salt) } else { None };
            let Some(wait) = wait else { return Err(error) };
            tokio::time::sleep(wait).await;
            tried += 1;
        }
    }

    pub(crate) async fn send_json<T: DeserializeOwned>(self) -> Result<T> {
        self.send().await?.json()
    }
}

async fn try_once(request: reqwest::RequestBuilder) -> Result<Answer> {
    let mut answer = request.send().await.map_err(no_answer)?;
    let status = answer.status();
    let headers = std::mem::take(answer.headers_mut());
    let body = answer.bytes().await.map_err(no_answer)?;
    if status.is_client_error() || status.is_server_error() {
        return Err(Error::Refused(Box::new(Refusal::new(status, retry_after(&headers), &body))));
    }
    if !status.is_success() {
        let why = "it is neither a success nor an error; is the base url right?".to_owned();
        return Err(Error::Unreadable { status, why });
    }
    Ok(Answer { status, headers, body })
}

fn no_answer(error: reqwest::Error) -> Error {
    if error.is_builder() { Error::Usage(error.to_string()) } else { Error::NoAnswer(error) }
}

/// Whole seconds; the other form, a date, is never sent by the service.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tsp_api::{ErrorCode, Problem};

    use super::*;
    use crate::{Client, DuplicateKey, SubmitTask};

    fn answer(status: u16, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
    }

    fn refusal(code: ErrorCode, headers: &str) -> String {
        answer(code.status(), headers, &serde_json::to_string(&Problem::new(code, "not now", "r1")).unwrap())
    }

    /// Answers connections in order, an empty text by closing; returns what was asked.
    async fn serve(listener: TcpListener, answers: Vec<String>) -> Vec<String> {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the whole request is sent");
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.push(String::from_utf8(request).unwrap());
        }
        asked
    }

    /// What a submit comes to, and how often it was asked; the service gives at most `answers`.
    async fn submit(answers: Vec<String>, task: &SubmitTask, key: Option<&str>) -> (Result<()>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let tsp = Client::builder(address).key("k").retry_wait_max(Duration::from_secs(2)).build().unwrap();
        let asked = std::sync::Mutex::new(0);
        let server = async {
            let texts = serve(listener, answers).await;
            let bearer = |text: &String| text.contains("authorization: Bearer k\r\n");
            assert!(texts.iter().all(|text| text == &texts[0] && bearer(text)), "{texts:?}");
            *asked.lock().unwrap() = texts.len();
        };
        let call = async {
            let request = tsp.request(Method::POST, "apps/a/tasks").json(task);
            let keyed = task.on_duplicate_key == Some(DuplicateKey::Ignore);
            let request = request.repeatable(keyed);
            let request = if let Some(key) = key { request.once(key) } else { request };
            request.send().await.map(|_| ())
        };
        let (result, ()) = tokio::join!(call, server);
        let asked = *asked.lock().unwrap();
        (result, asked)
    }

    #[tokio::test]
    async fn what_cannot_happen_twice_is_tried_again() {
        let busy = refusal(ErrorCode::Unavailable, "retry-after: 0\r\n");
        let limited = refusal(ErrorCode::RateLimited, "retry-after: 0\r\n");
        let working = refusal(ErrorCode::IdempotencyInProgress, "");
        let answers = vec![busy, limited, String::new(), working, answer(201, "", "{}")];
        let (result, asked) = submit(answers, &SubmitTask::new("c"), Some("i1")).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(asked, 5);
    }

    #[tokio::test]
    async fn a_plain_submit_is_sent_once() {
        let busy = refusal(ErrorCode::Unavailable, "retry-after: 0\r\n");
        let (result, _) = submit(vec![busy], &SubmitTask::new("c"), None).await;
        assert_eq!(result.unwrap_err().status(), Some(StatusCode::SERVICE_UNAVAILABLE));
        let (result, _) = submit(vec![String::new()], &SubmitTask::new("c"), None).await;
        assert!(matches!(result, Err(Error::NoAnswer(_))), "{result:?}");
    }

    #[tokio::test]
    async fn giving_up_returns_the_last_answer() {
        // Longer than this client waits.
        let later = refusal(ErrorCode::Unavailable, "retry-after: 3\r\n");
        let (result, _) = submit(vec![later], &SubmitTask::new("c"), Some("i1")).await;
        let error = result.unwrap_err();
        assert_eq!(error.problem().map(|problem| problem.code), Some(ErrorCode::Unavailable));
        assert_eq!(error.to_string(), "not now");
        // A wrong request stays wrong.
        let wrong = refusal(ErrorCode::InvalidField, "");
        let (result, _) = submit(vec![wrong], &SubmitTask::new("c"), Some("i1")).await;
        assert_eq!(result.unwrap_err().status(), Some(StatusCode::BAD_REQUEST));
    }

    #[tokio::test]
    async fn foreign_answers_are_told_apart() {
        let task = SubmitTask::new("c").key("k").on_duplicate_key(DuplicateKey::Ignore);
        let (result, asked) =
            submit(vec![answer(502, "", "<html>"), answer(200, "", "{}")], &task, None).await;
        assert!(result.is_ok() && asked == 2, "{result:?}");
        let (result, _) = submit(vec![answer(404, "", "<html>")], &task, None).await;
        assert_eq!(result.unwrap_err().to_string(), "the answer is 404 Not Found: <html>");
        let (result, _) = submit(vec![answer(302, "location: http://b/\r\n", "")], &task, None).await;
        assert!(matches!(result, Err(Error::Unreadable { .. })), "{result:?}");
    }
}
