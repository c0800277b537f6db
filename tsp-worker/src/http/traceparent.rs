//! W3C `traceparent` of a callback (docs/reference/http-callbacks.md section 9).

use bytes::{BufMut, BytesMut};
use tsp_core::entropy::Entropy;
use tsp_core::task::Task;
use tsp_core::time::{Millis, Timestamp};

/// A callback this soon after its submit belongs to the same trace; a later one begins a new trace,
/// since one that spans days helps nobody.
const SAME_TRACE: Millis = Millis::from_mins(5);
/// `00-<32 hex>-<16 hex>-<2 hex>`.
const TEXT_BYTES: usize = 55;
/// Of a new trace: whether it is recorded is the receiver's decision.
const NOT_SAMPLED: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: [u8; 16],
    flags: u8,
}

/// Appends the header's value with a new span id.
pub(super) fn write(task: &Task, now: Timestamp, entropy: &dyn Entropy, into: &mut BytesMut) {
    let stored = task.extra.as_ref().and_then(|extra| extra.traceparent.as_deref()).and_then(parse);
    let mut random = [0; 24];
    let (trace, span) = random.split_at_mut(16);
    let flags = match stored {
        Some(parent) if now.since(task.created_at) < SAME_TRACE => {
            trace.copy_from_slice(&parent.trace);
            entropy.fill(span);
            parent.flags
        }
        _ => {
            entropy.fill(&mut random);
            stored.map_or(NOT_SAMPLED, |parent| parent.flags)
        }
    };
    // All zeros are no ids.
    random[15] |= u8::from(random[..16] == [0; 16]);
    random[23] |= u8::from(random[16..] == [0; 8]);
    into.reserve(TEXT_BYTES);
    into.put_slice(b"00-");
    write_hex(&random[..16], into);
    into.put_u8(b'-');
    write_hex(&random[16..], into);
    into.put_u8(b'-');
    write_hex(&[flags], into);
}

fn write_hex(bytes: &[u8], into: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        into.put_u8(DIGITS[usize::from(byte >> 4)]);
        into.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

/// `None` for anything the standard calls invalid. A version above 00 may have more parts.
fn parse(text: &str) -> Option<Parent> {
    let bytes = text.as_bytes();
    let version = parse_hex::<1>(bytes.get(..2)?)?[0];
    let ends = if version == 0 {
        bytes.len() == TEXT_BYTES
    } else {
        bytes.get(TEXT_BYTES).is_none_or(|b| *b == b'-')
    };
    let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    if version == 0xff || !ends || !dashes {
        return None;
    }
    let trace = parse_hex::<16>(bytes.get(3..35)?)?;
    let span = parse_hex::<8>(bytes.get(36..52)?)?;
    let flags = parse_hex::<1>(bytes.get(53..55)?)?[0];
    if trace == [0; 16] || span == [0; 8] { None } else { Some(Parent { trace, flags }) }
}

fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fixtures::{NOW, Seeded, task};

    const STORED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn written(stored: Option<&str>, age: Millis) -> String {
        let mut task = task();
        task.created_at = NOW.minus(age);
        task.extra_mut().traceparent = stored.map(str::to_owned);
        let mut value = BytesMut::new();
        write(&task, NOW, &Seeded, &mut value);
        String::from_utf8(value.to_vec()).unwrap()
    }

    #[test]
    fn a_soon_callback_goes_on_with_the_trace_under_a_new_span() {
        let value = written(Some(STORED), Millis::from_secs(10));
        assert!(value.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{value}");
        assert!(!value.contains("00f067aa0ba902b7") && value.ends_with("-01"), "{value}");
        assert!(parse(&value).is_some());
    }

    #[test]
    fn a_late_one_and_one_without_a_trace_begin_a_new_one() {
        for (stored, age) in
            [(Some(STORED), SAME_TRACE), (None, Millis::ZERO), (Some("nonsense"), Millis::ZERO)]
        {
            let value = written(stored, age);
            assert!(!value.contains("4bf92f35") && parse(&value).is_some(), "{value}");
        }
    }

    #[test]
    fn what_the_standard_calls_invalid_is_dropped() {
        assert!(parse(STORED).is_some());
        assert!(parse(&format!("01{}-more", &STORED[2..])).is_some());
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473ö-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
