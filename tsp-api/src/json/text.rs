//! Strings, with and without their escapes.

use std::borrow::Cow;

/// The inside of a JSON string, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// `raw` is what stands between the quotes of a string that is sound.
    pub(super) fn new(raw: &'a str) -> Self {
        Self(raw)
    }

    /// With its escapes, without its quotes.
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// What it means: UTF-8, in which a lone surrogate has the three bytes that it would have if it were a
    /// character. No other string has them, so equal bytes are equal strings.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        let raw = self.0.as_bytes();
        let Some(first) = raw.iter().position(|&byte| byte == b'\\') else { return Cow::Borrowed(raw) };
        let mut out = Vec::with_capacity(raw.len());
        out.extend_from_slice(&raw[..first]);
        let mut rest = &raw[first..];
        while let Some((&byte, after)) = rest.split_first() {
            if byte == b'\\' {
                rest = unescape(after, &mut out);
            } else {
                out.push(byte);
                rest = after;
            }
        }
        Cow::Owned(out)
    }

    /// For people: a lone surrogate is shown as a replacement character.
    pub fn shown(self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// Writes what the escape means that begins behind its backslash; returns what follows it.
fn unescape<'a>(escape: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((&kind, rest)) = escape.split_first() else { return escape };
    let byte = match kind {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return code_unit(rest, out),
        other => other,
    };
    out.push(byte);
    rest
}

fn code_unit<'a>(digits: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((unit, rest)) = hex4(digits) else { return digits };
    if (0xd800..0xdc00).contains(&unit)
        && let Some((low, after)) = rest.strip_prefix(b"\\u").and_then(hex4)
        && (0xdc00..0xe000).contains(&low)
    {
        push(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), out);
        return after;
    }
    push(unit, out);
    rest
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let value = digits.iter().try_fold(0, |sum, &byte| Some(sum * 16 + char::from(byte).to_digit(16)?))?;
    Some((value, rest))
}

/// As UTF-8 does it, surrogates too.
#[expect(clippy::cast_possible_truncation, reason = "the shifts and masks leave a byte each")]
fn push(code: u32, out: &mut Vec<u8>) {
    let tail = |shift: u32| 0x80 | ((code >> shift) & 0x3f) as u8;
    match code {
        0..=0x7f => out.push(code as u8),
        0x80..=0x7ff => out.extend([0xc0 | (code >> 6) as u8, tail(0)]),
        0x800..=0xffff => out.extend([0xe0 | (code >> 12) as u8, tail(6), tail(0)]),
        _ => out.extend([0xf0 | (code >> 18) as u8, tail(12), tail(6), tail(0)]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn surrogates_are_joined_where_they_are_a_pair() {
        let bytes = |raw: &'static str| Text::new(raw).bytes().into_owned();
        assert_eq!(bytes("\\ud83d\\ude00"), "😀".as_bytes());
        assert_eq!(bytes("\\uD83D\\uDE00"), "😀".as_bytes());
        assert_eq!(bytes("\\ud83d"), [0xed, 0xa0, 0xbd]);
        assert_ne!(bytes("\\ud83d"), bytes("\\ud83e"));
        assert_ne!(bytes("\\ude00\\ud83d"), bytes("\\ud83d\\ude00"));
        assert_eq!(bytes("\\ud83dx"), [0xed, 0xa0, 0xbd, b'x']);
        assert_eq!(Text::new("a\\ud800").shown(), "a\u{fffd}\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn means_what_a_parser_says(text in any::<String>(), escaped in any::<bool>()) {
            let mut written = serde_json::to_string(&text).unwrap();
            if escaped {
                let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                written = format!("\"{}\"", units.concat());
            }
            let inner = &written[1..written.len() - 1];
            prop_assert_eq!(&*Text::new(inner).bytes(), text.as_bytes());
        }
    }
}
