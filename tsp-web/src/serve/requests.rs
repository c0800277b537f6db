//! Each request of a connection on its way to the routes: what must hold of it whatever it asks for, and what
//! becomes of a body that nobody reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::connections::Connection;
use crate::middleware::BadHost;

/// What is left of a body is read over and the connection kept, if it was declared to be at most so long.
const SHORT_BYTES_MAX: u64 = 8 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Requests {
    routes: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Requests {
    pub(super) fn new(routes: Router, connection: Arc<Connection>) -> Self {
        Self { routes: TowerToHyperService::new(routes), connection }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.connection.asked();
        let (mut parts, body) = request.into_parts();
        if !names_one_host(&parts) {
            parts.extensions.insert(BadHost);
        }
        let is_short = body.size_hint().exact().is_some_and(|length| length <= SHORT_BYTES_MAX);
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            Body::new(WatchedBody { body, connection: self.connection.clone() })
        };
        let (connection, answer) =
            (self.connection.clone(), self.routes.call(Request::from_parts(parts, body)));
        Box::pin(async move {
            let mut response = answer.await?;
            connection.answered();
            if connection.is_unread() && !is_short {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// RFC 9112 section 3.2. HTTP/1.0 knows no `Host`.
fn names_one_host(parts: &http::request::Parts) -> bool {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => parts.version < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || is_host(host),
        (Some(_), Some(_)) => false,
    }
}

fn is_host(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| !authority.as_str().contains('@'))
}

/// A body that tells when its reader waits, and when it was left unread.
struct WatchedBody {
    body: Incoming,
    connection: Arc<Connection>,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            self.connection.waits_for_body();
        }
        let frame = ready!(polled);
        self.connection.got_body();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            self.connection.left_unread();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_named() {
        let parts = |version, hosts: &[&'static str]| {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            request.body(()).unwrap().into_parts().0
        };
        for host in ["localhost", "127.0.0.1:8080", "[::1]:80", "tsp.example.com:443", ""] {
            assert!(names_one_host(&parts(Version::HTTP_11, &[host])), "{host}");
        }
        for bad in ["a b", "a/b", "user@host"] {
            assert!(!names_one_host(&parts(Version::HTTP_11, &[bad])), "{bad}");
        }
        assert!(!names_one_host(&parts(Version::HTTP_11, &[])));
        assert!(names_one_host(&parts(Version::HTTP_10, &[])));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!names_one_host(&parts(version, &["a", "a"])));
        }
    }
}
