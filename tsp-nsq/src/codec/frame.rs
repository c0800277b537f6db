//! What nsqd sends: frames.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::Command;

const RESPONSE: u32 = 0;
const ERROR: u32 = 1;
const MESSAGE: u32 = 2;

const SIZE_BYTES: usize = 4;
const TYPE_BYTES: usize = 4;
/// Timestamp, attempts, id.
const MESSAGE_HEAD: usize = 8 + 2 + 16;

/// Smaller bodies are copied out, so that one of them does not keep the whole read buffer alive.
const COPY_UP_TO: usize = 4096;

/// The identity of a message within its topic and channel: opaque, by custom hex in ASCII.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// A message as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFrame {
    /// When it was published, in nanoseconds since 1970, by the clock of nsqd.
    pub timestamp_ns: i64,
    /// 1 on the first delivery. It wraps.
    pub attempts: u16,
    pub id: MessageId,
    pub body: Bytes,
}

/// An error frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {text}")]
pub struct ErrorReply {
    /// `E_BAD_TOPIC`, for example.
    pub code: String,
    pub text: String,
}

impl ErrorReply {
    fn parse(data: &[u8]) -> Self {
        let whole = String::from_utf8_lossy(data);
        let (code, text) = whole.split_once(' ').unwrap_or((&whole, ""));
        Self { code: code.to_owned(), text: text.to_owned() }
    }

    /// nsqd closes the connection after it. Three codes are not fatal: those that answer commands which have
    /// no reply, so they belong to no waiting caller either.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.code.as_str(), "E_FIN_FAILED" | "E_REQ_FAILED" | "E_TOUCH_FAILED")
    }

    /// The same command would be refused again.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self.code.as_str(),
            "E_BAD_TOPIC" | "E_BAD_CHANNEL" | "E_BAD_MESSAGE" | "E_BAD_BODY" | "E_UNAUTHORIZED"
        )
    }
}

/// One frame from nsqd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `OK`, `_heartbeat_`, `CLOSE_WAIT` or JSON.
    Response(Bytes),
    Error(ErrorReply),
    Message(MessageFrame),
}

/// Bytes that are no frame. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a frame of size {size} has no room for its type")]
    TooShort { size: usize },
    #[error("a frame of size {size} is above the limit of {max}")]
    TooLong { size: usize, max: usize },
    #[error("a message frame of size {size} has no room for its head")]
    ShortMessage { size: usize },
    #[error("frame type {0} is not known")]
    UnknownType(u32),
}

/// The next frame, or `None` as long as it is not complete. Nothing is taken from `buf` before, and nothing is
/// reserved before the size is checked against `max_frame` (the size field's value, so
/// [`super::MESSAGE_OVERHEAD`] above the largest body).
pub fn decode(buf: &mut BytesMut, max_frame: usize) -> Result<Option<Frame>, DecodeError> {
    let Some(&[a, b, c, d]) = buf.first_chunk() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if size < TYPE_BYTES {
        return Err(DecodeError::TooShort { size });
    }
    if size > max_frame {
        return Err(DecodeError::TooLong { size, max: max_frame });
    }
    if buf.len() >= SIZE_BYTES + TYPE_BYTES {
        check_type(buf, size)?;
    }
    if buf.len() < SIZE_BYTES + size {
        buf.reserve(SIZE_BYTES + size - buf.len());
        return Ok(None);
    }
    buf.advance(SIZE_BYTES);
    let kind = buf.get_u32();
    let frame = match kind {
        RESPONSE => Frame::Response(take(buf, size - TYPE_BYTES)),
        ERROR => Frame::Error(ErrorReply::parse(&take(buf, size - TYPE_BYTES))),
        _ => Frame::Message(take_message(buf, size)),
    };
    Ok(Some(frame))
}

/// A frame that cannot be right is refused as soon as its head is here.
fn check_type(buf: &BytesMut, size: usize) -> Result<(), DecodeError> {
    let kind = (&buf[SIZE_BYTES..]).get_u32();
    match kind {
        MESSAGE if size < TYPE_BYTES + MESSAGE_HEAD => Err(DecodeError::ShortMessage { size }),
        RESPONSE | ERROR | MESSAGE => Ok(()),
        other => Err(DecodeError::UnknownType(other)),
    }
}

fn take_message(buf: &mut BytesMut, size: usize) -> MessageFrame {
    let timestamp_ns = buf.get_i64();
    let attempts = buf.get_u16();
    let mut id = [0; 16];
    buf.copy_to_slice(&mut id);
    let body = take(buf, size - TYPE_BYTES - MESSAGE_HEAD);
    MessageFrame { timestamp_ns, attempts, id: MessageId(id), body }
}

fn take(buf: &mut BytesMut, len: usize) -> Bytes {
    if len > COPY_UP_TO {
        return buf.split_to(len).freeze();
    }
    let copy = Bytes::copy_from_slice(&buf[..len]);
    buf.advance(len);
    copy
}

impl Frame {
    /// Appends the frame as nsqd would write it.
    pub fn encode(&self, out: &mut BytesMut) {
        let error;
        let (kind, data): (u32, &[u8]) = match self {
            Self::Response(data) => (RESPONSE, data),
            Self::Error(reply) if reply.text.is_empty() => (ERROR, reply.code.as_bytes()),
            Self::Error(reply) => {
                error = reply.to_string();
                (ERROR, error.as_bytes())
            }
            Self::Message(message) => return message.encode(out),
        };
        put_length(out, TYPE_BYTES + data.len());
        out.put_u32(kind);
        out.put_slice(data);
    }
}

impl MessageFrame {
    fn encode(&self, out: &mut BytesMut) {
        put_length(out, TYPE_BYTES + MESSAGE_HEAD + self.body.len());
        out.put_u32(MESSAGE);
        out.put_i64(self.timestamp_ns);
        out.put_u16(self.attempts);
        out.put_slice(&self.id.0);
        out.put_slice(&self.body);
    }
}

/// A length above 4 GiB is written as the largest there is, which every peer refuses.
pub(super) fn put_length(out: &mut BytesMut, len: usize) {
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Frames in, commands out, for `tokio_util::codec::Framed`.
#[derive(Debug, Clone, Copy)]
pub struct FrameCodec {
    /// The largest value of a size field that is accepted.
    pub max_frame: usize,
}

/// [`DecodeError`], or the stream failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(decode(buf, self.max_frame)?)
    }
}

impl Encoder<&Command> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, command: &Command, out: &mut BytesMut) -> io::Result<()> {
        command.encode(out);
        Ok(())
    }
}
