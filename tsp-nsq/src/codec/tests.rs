//! Goldens of `docs/reference/nsq.md` section 2, and properties.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

use super::{Command, DecodeError, ErrorReply, Frame, FrameCodec, MessageFrame, MessageId, decode};
use crate::{Channel, Topic};

const ID: MessageId = MessageId(*b"0123456789abcdef");
const MAX: usize = 1 << 20;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).expect("hex")).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn topic() -> Topic {
    Topic::new("t").expect("valid")
}

fn sent(command: &Command) -> Vec<u8> {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    out.to_vec()
}

fn read_all(bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let mut buf = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decode(&mut buf, MAX)? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn commands_have_their_golden_bytes() {
    let bodies: Arc<[Bytes]> = Arc::from([Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
    let channel = Channel::new("c").expect("valid");
    for (command, bytes) in [
        (Command::Pub(topic(), Bytes::from_static(b"hi")), "50554220740a 00000002 6869"),
        (Command::Mpub(topic(), bodies), "4d50554220740a 0000000f 00000002 00000001 61 00000002 6263"),
        (Command::Sub(topic(), channel), "535542207420630a"),
        (Command::Rdy(5), "52445920350a"),
        (Command::Nop, "4e4f500a"),
        (Command::Cls, "434c530a"),
        (Command::Fin(ID), "46494e20303132333435363738396162636465660a"),
        (Command::Req(ID, Duration::ZERO), "524551203031323334353637383961626364656620300a"),
    ] {
        assert_eq!(sent(&command), hex(bytes), "{command:?}");
    }
    assert_eq!(sent(&Command::Touch(ID)), b"TOUCH 0123456789abcdef\n");
    assert_eq!(sent(&Command::Req(ID, Duration::from_micros(1_999))), b"REQ 0123456789abcdef 1\n");
    assert_eq!(sent(&Command::Identify(Bytes::from_static(b"{}"))), b"IDENTIFY\n\0\0\0\x02{}");
    assert_eq!(sent(&Command::Auth(Bytes::from_static(b"s"))), b"AUTH\n\0\0\0\x01s");
}

#[test]
fn the_codec_writes_what_the_command_does() {
    let mut out = BytesMut::new();
    FrameCodec { max_frame: MAX }.encode(&Command::Rdy(5), &mut out).expect("memory");
    assert_eq!(out.to_vec(), sent(&Command::Rdy(5)));
}

#[test]
fn a_command_shows_neither_body_nor_secret() {
    let shown = format!(
        "{:?} {:?}",
        Command::Auth(Bytes::from_static(b"hunter2")),
        Command::Pub(topic(), Bytes::from_static(b"hunter2"))
    );
    assert_eq!(shown, "AUTH PUB t (7 bytes)");
}

#[test]
fn frames_have_their_golden_bytes() {
    let message = MessageFrame {
        timestamp_ns: 1_700_000_000_000_000_000,
        attempts: 1,
        id: ID,
        body: Bytes::from_static(b"hi"),
    };
    for (frame, bytes) in [
        (Frame::Response(Bytes::from_static(b"OK")), "00000006 00000000 4f4b"),
        (Frame::Response(Bytes::from_static(b"_heartbeat_")), "0000000f 00000000 5f6865617274626561745f"),
        (Frame::Response(Bytes::from_static(b"CLOSE_WAIT")), "0000000e 00000000 434c4f53455f57414954"),
        (
            Frame::Message(message),
            "00000020 00000002 17979cfe362a0000 0001 30313233343536373839616263646566 6869",
        ),
    ] {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(out.to_vec(), hex(bytes));
        assert_eq!(read_all(&hex(bytes)), Ok(vec![frame]));
    }
}

#[test]
fn an_error_is_split_at_its_first_space() {
    let whole = read_all(b"\0\0\0\x10\0\0\0\x01E_BAD_TOPIC!").expect("a frame");
    assert_eq!(whole, [Frame::Error(ErrorReply { code: "E_BAD_TOPIC!".to_owned(), text: String::new() })]);
    let parts = read_all(b"\0\0\0\x0f\0\0\0\x01E_BAD a b c").expect("a frame");
    assert_eq!(parts, [Frame::Error(ErrorReply { code: "E_BAD".to_owned(), text: "a b c".to_owned() })]);
}

#[test]
fn only_three_errors_keep_the_connection() {
    let fatal = |code: &str| ErrorReply { code: code.to_owned(), text: String::new() }.is_fatal();
    assert!(["E_FIN_FAILED", "E_REQ_FAILED", "E_TOUCH_FAILED"].iter().all(|code| !fatal(code)));
    assert!(["E_INVALID", "E_PUB_FAILED", "E_SUB_FAILED", "E_NEW"].iter().all(|code| fatal(code)));
}

#[test]
fn frames_that_cannot_be_right_are_refused_without_room_for_them() {
    for (bytes, error) in [
        ("00000000", DecodeError::TooShort { size: 0 }),
        ("00000003", DecodeError::TooShort { size: 3 }),
        ("0000001d 00000002", DecodeError::ShortMessage { size: 29 }),
        ("80000000", DecodeError::TooLong { size: 1 << 31, max: MAX }),
        ("00100001", DecodeError::TooLong { size: MAX + 1, max: MAX }),
        ("00000006 00000003", DecodeError::UnknownType(3)),
    ] {
        let mut buf = BytesMut::from(&hex(bytes)[..]);
        assert_eq!(decode(&mut buf, MAX), Err(error), "{bytes}");
        assert!(buf.capacity() < 64);
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let bytes = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let large = (4_000_usize..9_000, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]));
    let body = prop_oneof![3 => bytes.clone(), 1 => large];
    let message = (any::<i64>(), any::<u16>(), any::<[u8; 16]>(), body).prop_map(
        |(timestamp_ns, attempts, id, body)| {
            Frame::Message(MessageFrame { timestamp_ns, attempts, id: MessageId(id), body })
        },
    );
    let error =
        ("[A-Z_]{1,20}", "[ -~]{0,40}").prop_map(|(code, text)| Frame::Error(ErrorReply { code, text }));
    prop_oneof![bytes.prop_map(Frame::Response), error, message]
}

proptest! {
    #[test]
    fn frames_come_back_as_they_went_in_any_pieces(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(1_usize..700, 1..40),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire);
        }
        prop_assert_eq!(&read_all(&wire).expect("valid"), &frames);

        let mut codec = FrameCodec { max_frame: MAX };
        let (mut buf, mut got, mut rest) = (BytesMut::new(), Vec::new(), &wire[..]);
        for cut in cuts.iter().cycle() {
            let piece = rest.split_off(..(*cut).min(rest.len())).expect("within");
            buf.extend_from_slice(piece);
            while let Some(frame) = codec.decode(&mut buf).expect("valid") {
                got.push(frame);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut buf, 128) {}
        prop_assert!(buf.capacity() <= 512);
    }
}
