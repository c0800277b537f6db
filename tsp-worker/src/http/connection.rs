//! One HTTP/1.1 connection that is driven by whoever uses it. A task of its own per connection would
//! cost a wake-up across tasks for every read and write; a connection that nobody uses needs none.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::stream::Stream;
use super::watched::{ByteSignal, WatchedStream};

/// At most this much of an answer's head is buffered; what is longer is malformed.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// At most this much of an answer's body is read; the rest is not waited for.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// At most this much of it is kept.
const EXCERPT_BYTES_MAX: usize = 4 * 1024;

/// In a box: it is large, and a connection moves from call to call.
type Driver = Box<http1::Connection<TokioIo<WatchedStream>, Full<Bytes>>>;

pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    heard: ByteSignal,
    /// It has carried a request before, so the peer may have closed it in the meantime.
    pub(super) reused: bool,
    /// When it is idle for too long.
    pub(super) expires_at: Instant,
    /// Given back when it is closed.
    _room: OwnedSemaphorePermit,
}

/// A request that brought no answer.
pub(super) struct SendFailure {
    pub(super) error: hyper::Error,
    /// The request, if nothing of it was written.
    pub(super) unsent: Option<Request<Full<Bytes>>>,
    /// Whether an answer had begun.
    pub(super) heard: bool,
}

/// What was read of a body.
pub(super) struct BodyStart {
    /// The first bytes, at most 4 KiB.
    pub(super) excerpt: Vec<u8>,
    /// The body ended within the cap; only then can the connection carry another request.
    pub(super) complete: bool,
}

impl Connection {
    pub(super) async fn open(stream: Stream, room: OwnedSemaphorePermit) -> Result<Self, hyper::Error> {
        // The library's default of 100 headers is kept: setting it would allocate per answer.
        let heard = ByteSignal::default();
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_header_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(WatchedStream::new(stream, heard.clone())))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            heard,
            reused: false,
            expires_at: Instant::now(),
            _room: room,
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendFailure> {
        self.heard.forget();
        let mut answer = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            drive(driver, cx);
            answer.as_mut().poll(cx)
        })
        .await
        .map_err(|mut failure| {
            let unsent = failure.take_message();
            SendFailure { error: failure.into_error(), unsent, heard: self.heard.anything() }
        })
    }

    /// Reads a body up to the cap. An error means that it broke off.
    pub(super) async fn read(&mut self, mut body: Incoming) -> Result<BodyStart, hyper::Error> {
        let mut excerpt = Vec::new();
        let mut read = 0;
        while !body.is_end_stream() {
            let driver = &mut self.driver;
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                    return Poll::Ready(frame);
                }
                // Asking has told the driver that data is wanted.
                drive(driver, cx);
                Pin::new(&mut body).poll_frame(cx)
            });
            let Some(frame) = frame.await else { break };
            // Trailers are read over.
            let Ok(data) = frame?.into_data() else { continue };
            let room = EXCERPT_BYTES_MAX - excerpt.len();
            excerpt.extend_from_slice(&data[..data.len().min(room)]);
            read += data.len();
            if read >= BODY_BYTES_MAX && !body.is_end_stream() {
                return Ok(BodyStart { excerpt, complete: false });
            }
        }
        Ok(BodyStart { excerpt, complete: true })
    }

    /// From now on nobody uses it, for at most `limit`.
    pub(super) fn rest(&mut self, limit: Duration) {
        self.reused = true;
        self.expires_at = Instant::now() + limit;
    }

    /// Whether the connection can carry another request. Notices what the peer has done to an idle one.
    pub(super) fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        drive(&mut self.driver, cx);
        self.driver.is_some() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("reused", &self.reused).finish_non_exhaustive()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    // How it ended reaches the caller with the answer or the body.
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
    }
}
