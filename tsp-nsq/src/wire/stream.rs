//! The two halves of a connection, with its compression.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::compress::{Compressor, Decompressor};
use crate::codec::{CodecError, Command, Frame, decode};

const READ_BYTES: usize = 16 * 1024;
/// A buffer that one large batch or frame has grown is freed.
const KEEP_BYTES: usize = 256 * 1024;

/// Frames from the receiving half.
pub(crate) struct FrameReader {
    io: Box<dyn AsyncRead + Send + Unpin>,
    raw: BytesMut,
    plain: BytesMut,
    unsqueeze: Decompressor,
    max_frame: usize,
}

impl FrameReader {
    pub(crate) fn new(
        io: impl AsyncRead + Send + Unpin + 'static,
        unsqueeze: Decompressor,
        max_frame: usize,
    ) -> Self {
        Self { io: Box::new(io), raw: BytesMut::new(), plain: BytesMut::new(), unsqueeze, max_frame }
    }

    /// Reads once; false at the end of the stream. Nothing is lost when it is cancelled.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        let plain = matches!(self.unsqueeze, Decompressor::Plain);
        let buf = if plain { &mut self.plain } else { &mut self.raw };
        buf.reserve(READ_BYTES);
        Ok(self.io.read_buf(buf).await? > 0)
    }

    /// The next frame of what has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            if let Some(frame) = decode(&mut self.plain, self.max_frame)? {
                return Ok(Some(frame));
            }
            if !self.unsqueeze.step(&mut self.raw, &mut self.plain)? {
                return Ok(None);
            }
        }
    }

    /// Waits for the next frame; `None` at the end of the stream.
    pub(crate) async fn recv(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            if let Some(frame) = self.next()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}

/// Commands to the sending half.
pub(crate) struct CommandWriter {
    io: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) batch: BytesMut,
    squeeze: Compressor,
}

impl CommandWriter {
    pub(crate) fn new(io: impl AsyncWrite + Send + Unpin + 'static, squeeze: Compressor) -> Self {
        Self { io: Box::new(io), batch: BytesMut::new(), squeeze }
    }

    pub(crate) async fn send(&mut self, command: &Command) -> io::Result<()> {
        command.encode(&mut self.batch);
        self.flush().await
    }

    /// Writes the whole batch, and lets nothing of it wait.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.squeeze.batch(&mut self.batch)?;
        self.io.write_all(&self.batch).await?;
        self.io.flush().await?;
        if self.batch.capacity() > KEEP_BYTES {
            self.batch = BytesMut::new();
        }
        self.batch.clear();
        Ok(())
    }

    /// Ends the sending half: nsqd answers what it has, then ends its own.
    pub(crate) async fn shut(&mut self) -> io::Result<()> {
        let end = self.squeeze.end()?;
        self.io.write_all(&end).await?;
        self.io.shutdown().await
    }
}
