//! One request on a connection of its own: these calls are rare.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// The most bytes of a foreign answer that are shown.
const EXCERPT_BYTES: usize = 200;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{0}` is not an address such as `http://127.0.0.1:4151`")]
    Address(String),
    #[error("no answer from `{address}`: {why}")]
    NoAnswer { address: String, why: String },
    /// `message` is the code, `TOPIC_NOT_FOUND` for example, or the beginning of an answer without one.
    #[error("the answer is {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl HttpError {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// An HTTP server of NSQ.
#[derive(Debug, Clone)]
pub(super) struct Server {
    address: String,
}

impl Server {
    /// `http://host:port` or `host:port`.
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.trim_end_matches('/').to_owned() }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        Ok(serde_json::from_slice(&self.call(Method::GET, path).await?)?)
    }

    pub(super) async fn ping(&self) -> Result<(), HttpError> {
        self.call(Method::GET, "/ping").await.map(drop)
    }

    pub(super) async fn post(&self, path: &str) -> Result<(), HttpError> {
        self.call(Method::POST, path).await.map(drop)
    }

    /// `path` with its query.
    async fn call(&self, method: Method, path: &str) -> Result<Bytes, HttpError> {
        let authority = self.authority()?;
        let (status, body) = match timeout(TIMEOUT, exchange(&authority, method, path)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(self.no_answer(why.to_string())),
            Err(_) => return Err(self.no_answer("it took too long".to_owned())),
        };
        if status.is_success() {
            return Ok(body);
        }
        Err(HttpError::Refused { status: status.as_u16(), message: message_of(&body) })
    }

    fn no_answer(&self, why: String) -> HttpError {
        HttpError::NoAnswer { address: self.address.clone(), why }
    }

    /// `host:port`.
    fn authority(&self) -> Result<String, HttpError> {
        let bare = self.address.strip_prefix("http://").unwrap_or(&self.address);
        match bare.parse::<Uri>() {
            Ok(uri) if uri.port_u16().is_some() && uri.scheme().is_none() => Ok(bare.to_owned()),
            _ => Err(HttpError::Address(self.address.clone())),
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(authority: &str, method: Method, path: &str) -> Result<(StatusCode, Bytes), AnyError> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority)
        .header(ACCEPT, HeaderValue::from_static("application/vnd.nsq; version=1.0"))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The server has closed; what it said before is still there to be taken.
        _ = &mut connection => answer.await,
    }
}

fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Failure {
        message: String,
    }
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]).into_owned(),
    }
}

/// A name as it stands in a query: of what names may hold, only the hash needs it.
pub(super) fn escaped(name: &str) -> String {
    name.replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_scheme() {
        for address in ["http://127.0.0.1:4151", "127.0.0.1:4151", "http://127.0.0.1:4151/"] {
            assert_eq!(Server::new(address).authority().expect(address), "127.0.0.1:4151");
        }
        assert_eq!(Server::new("[::1]:4151").authority().expect("valid"), "[::1]:4151");
        for address in ["https://127.0.0.1:4151", "127.0.0.1", "http://a:1/b", ""] {
            assert!(matches!(Server::new(address).authority(), Err(HttpError::Address(_))), "{address}");
        }
    }

    #[test]
    fn the_code_of_a_failure() {
        assert_eq!(message_of(br#"{"message":"TOPIC_NOT_FOUND"}"#), "TOPIC_NOT_FOUND");
        assert_eq!(message_of(b"<html>"), "<html>");
    }
}
