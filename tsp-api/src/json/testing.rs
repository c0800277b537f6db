//! Documents for property tests: also such that no parser can hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

/// A document whose members have different names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// As it is written.
    Word(String),
    /// UTF-16, perhaps half of a pair.
    Text(Vec<u16>),
    List(Vec<Json>),
    /// By names, which are UTF-16 as well.
    Object(BTreeMap<Vec<u16>, Json>),
}

/// Any document.
pub(super) fn json() -> impl Strategy<Value = Json> {
    let units = || prop::collection::vec(prop_oneof![0x20..0x7f_u16, 0xd7f0..0xe010_u16, any::<u16>()], 0..5);
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?".prop_map(Json::Word),
        prop::sample::select(vec!["true", "false", "null"]).prop_map(|word| Json::Word(word.to_owned())),
        units().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
            prop::collection::btree_map(units(), inner, 0..5).prop_map(Json::Object),
        ]
    })
}

/// Any document as it may be written.
pub(super) fn any_json() -> impl Strategy<Value = String> {
    (json(), any::<u64>()).prop_map(|(document, seed)| rewritten(&document, seed))
}

/// What looks like a document, and mostly is none.
pub(super) fn near_json() -> impl Strategy<Value = String> {
    "[{}\\[\\]\":, 0-9.eE+\\-\\\\untrfalsd8\u{7f}\u{0}ü]{0,24}"
}

impl Json {
    pub(super) fn compact(&self) -> String {
        rewritten(self, 0)
    }

    /// Whether they say the same.
    pub(super) fn equal(a: &Self, b: &Self) -> bool {
        a == b
    }
}

/// The document with other blanks, escapes and orders of members; 0 is the plainest.
pub(super) fn rewritten(document: &Json, seed: u64) -> String {
    let mut out = String::new();
    write(document, &mut TestRng(seed), &mut out);
    out
}

/// Small numbers that follow from a seed; none but zeros from zero.
struct TestRng(u64);

impl TestRng {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17) ^ (self.0 >> 7);
        self.0 % sides
    }
}

fn write(document: &Json, rng: &mut TestRng, out: &mut String) {
    blank(rng, out);
    match document {
        Json::Word(word) => out.push_str(word),
        Json::Text(units) => write_text(units, rng, out),
        Json::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write(item, rng, out);
            }
            blank(rng, out);
            out.push(']');
        }
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            if rng.roll(2) == 1 {
                fields.reverse();
            }
            out.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                blank(rng, out);
                write_text(name, rng, out);
                blank(rng, out);
                out.push(':');
                write(value, rng, out);
            }
            blank(rng, out);
            out.push('}');
        }
    }
    blank(rng, out);
}

fn blank(rng: &mut TestRng, out: &mut String) {
    out.push_str(["", "", " ", "\n\t", "\r"][usize::try_from(rng.roll(5)).unwrap_or(0)]);
}

fn write_text(units: &[u16], rng: &mut TestRng, out: &mut String) {
    out.push('"');
    for decoded in char::decode_utf16(units.iter().copied()) {
        match decoded {
            Ok(c) if c >= ' ' && c != '"' && c != '\\' && rng.roll(4) < 3 => out.push(c),
            Ok(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escape(*unit, rng, out);
                }
            }
            Err(lone) => escape(lone.unpaired_surrogate(), rng, out),
        }
    }
    out.push('"');
}

fn escape(unit: u16, rng: &mut TestRng, out: &mut String) {
    match (unit, rng.roll(2)) {
        (0x22, 0) => out.push_str("\\\""),
        (0x5c, 0) => out.push_str("\\\\"),
        (0x0a, 0) => out.push_str("\\n"),
        (_, 1) => {
            let _ = write!(out, "\\u{unit:04X}");
        }
        _ => {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}
