//! The socket below a connection: it reports what moves, and closes so that the last answer arrives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Duration, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::connections::Connection;

/// After an answer to a body that nobody read, so much of it is read over. A client that writes all before it
/// reads would otherwise find its connection reset, and never see the answer.
const READ_OVER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// And for so long.
const READ_OVER_WITHIN: Duration = Duration::from_secs(5);
const PART_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    stop: CancellationToken,
    /// Nothing more is written.
    lingering: Option<LingerState>,
}

#[derive(Debug)]
struct LingerState {
    until: Pin<Box<Sleep>>,
    read: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, stop: CancellationToken) -> Self {
        Self { stream, connection, stop, lingering: None }
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.connection.moved();
        }
    }

    /// Reads over what still comes.
    fn poll_read_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else { return Poll::Ready(()) };
        let mut part = [0; PART_BYTES];
        while lingering.read < READ_OVER_BYTES_MAX && !self.stop.is_cancelled() {
            let mut buffer = ReadBuf::new(&mut part);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    lingering.read += buffer.filled().len();
                    self.connection.moved();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return lingering.until.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_pending() {
            self.connection.found_nothing();
        }
        self.moved(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if !self.connection.is_unread() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(LingerState { until: Box::pin(sleep(READ_OVER_WITHIN)), read: 0 });
        }
        self.poll_read_over(cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
