//! What a client sends: commands.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::MessageId;
use super::frame::put_length;
use crate::{Channel, Topic};

/// One command. `DPUB` is left out on purpose: a delay does not survive a crash of nsqd
/// (`docs/reference/nsq.md`, section 1).
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// JSON.
    Identify(Bytes),
    Auth(Bytes),
    Sub(Topic, Channel),
    Pub(Topic, Bytes),
    Mpub(Topic, Arc<[Bytes]>),
    Rdy(u32),
    Fin(MessageId),
    /// The delay is cut to whole milliseconds.
    Req(MessageId, Duration),
    Touch(MessageId),
    Cls,
    Nop,
}

/// Without bodies and secrets.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identify(_) => f.write_str("IDENTIFY"),
            Self::Auth(_) => f.write_str("AUTH"),
            Self::Sub(topic, channel) => write!(f, "SUB {topic} {channel}"),
            Self::Pub(topic, body) => write!(f, "PUB {topic} ({} bytes)", body.len()),
            Self::Mpub(topic, bodies) => write!(f, "MPUB {topic} ({} messages)", bodies.len()),
            Self::Rdy(count) => write!(f, "RDY {count}"),
            Self::Fin(id) => write!(f, "FIN {id}"),
            Self::Req(id, delay) => write!(f, "REQ {id} {}", delay.as_millis()),
            Self::Touch(id) => write!(f, "TOUCH {id}"),
            Self::Cls => f.write_str("CLS"),
            Self::Nop => f.write_str("NOP"),
        }
    }
}

impl Command {
    /// Appends the command as it stands on the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Identify(json) => put_with_body(out, &[b"IDENTIFY"], json),
            Self::Auth(secret) => put_with_body(out, &[b"AUTH"], secret),
            Self::Sub(topic, channel) => {
                put_line(out, &[b"SUB ", name(topic), b" ", channel.as_str().as_bytes()]);
            }
            Self::Pub(topic, body) => put_with_body(out, &[b"PUB ", name(topic)], body),
            Self::Mpub(topic, bodies) => put_mpub(out, topic, bodies),
            Self::Rdy(count) => put_number(out, b"RDY ", u64::from(*count)),
            Self::Fin(id) => put_line(out, &[b"FIN ", &id.0]),
            Self::Req(id, delay) => {
                out.put_slice(b"REQ ");
                out.put_slice(&id.0);
                put_number(out, b" ", u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            }
            Self::Touch(id) => put_line(out, &[b"TOUCH ", &id.0]),
            Self::Cls => put_line(out, &[b"CLS"]),
            Self::Nop => put_line(out, &[b"NOP"]),
        }
    }
}

fn name(topic: &Topic) -> &[u8] {
    topic.as_str().as_bytes()
}

fn put_line(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.put_slice(part);
    }
    out.put_u8(b'\n');
}

fn put_with_body(out: &mut BytesMut, line: &[&[u8]], body: &[u8]) {
    put_line(out, line);
    put_length(out, body.len());
    out.put_slice(body);
}

fn put_number(out: &mut BytesMut, before: &[u8], number: u64) {
    out.put_slice(before);
    writeln!(out.writer(), "{number}").expect("a buffer in memory grows");
}

fn put_mpub(out: &mut BytesMut, topic: &Topic, bodies: &[Bytes]) {
    put_line(out, &[b"MPUB ", name(topic)]);
    let inner: usize = bodies.iter().map(|body| 4 + body.len()).sum();
    out.reserve(8 + inner);
    put_length(out, 4 + inner);
    put_length(out, bodies.len());
    for body in bodies {
        put_length(out, body.len());
        out.put_slice(body);
    }
}
