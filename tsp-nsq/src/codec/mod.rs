//! The NSQ V2 wire format as pure bytes: no IO in here. See `docs/reference/nsq.md`, section 2.

mod command;
mod frame;
#[cfg(test)]
mod tests;

pub use command::Command;
pub use frame::{CodecError, DecodeError, ErrorReply, Frame, FrameCodec, MessageFrame, MessageId, decode};

/// What a client sends first.
pub const MAGIC: &[u8; 4] = b"  V2";

/// What a frame needs beside the body of a message: type, timestamp, attempts, id.
pub const MESSAGE_OVERHEAD: usize = 30;

pub(crate) const HEARTBEAT: &[u8] = b"_heartbeat_";
