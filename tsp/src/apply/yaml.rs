//! YAML, with the digits of its numbers.

use std::fmt::{self, Write as _};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Error, Spanned};

/// A node, and where it stands in the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    kind: Kind,
    from: usize,
    to: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The documents of a file. JSON is YAML too.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Error> {
    // YAML 1.2: `y`, `on` and `no` are words; only `true` and `false` are not.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_multiple_with_options(text, options)
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The elements of a list, or the node itself.
    pub(super) fn flat(self) -> Vec<Self> {
        match self.kind {
            Kind::List(items) => items,
            _ => vec![self],
        }
    }

    pub(super) fn fields(self) -> Option<Vec<(String, Self)>> {
        match self.kind {
            Kind::Map(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(value),
            Kind::Number(number) => Value::Number(number),
            Kind::Text(text) => Value::String(text),
            Kind::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Kind::Map(fields) => {
                let fields = fields.into_iter().map(|(name, node)| (name, node.into_value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// As compact JSON, in which the members have their order and the numbers of `source` their digits.
    pub(super) fn to_json(&self, source: &str) -> String {
        let mut out = String::new();
        self.write(source, &mut out);
        out
    }

    fn write(&self, source: &str, out: &mut String) {
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Kind::Number(number) => match source.get(self.from..self.to).filter(|text| is_json(text)) {
                Some(written) => out.push_str(written),
                // `0x1f`, `+1` and their like.
                None => out.push_str(&number.to_string()),
            },
            Kind::Text(text) => push_text(text, out),
            Kind::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    item.write(source, out);
                }
                out.push(']');
            }
            Kind::Map(fields) => {
                out.push('{');
                for (at, (name, node)) in fields.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    push_text(name, out);
                    out.push(':');
                    node.write(source, out);
                }
                out.push('}');
            }
        }
    }
}

fn is_json(number: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(number).is_ok_and(|raw| raw.get() == number)
}

fn push_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

/// A text as YAML that any reader takes: in double quotes, with everything escaped that is not plainly a
/// letter, a digit or a sign of ASCII.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        // Where an alias is used its digits stand at the anchor.
        let span = spanned.defined.span();
        let place = |at: Option<_>| at.and_then(|at| usize::try_from(at).ok());
        let from = place(span.byte_offset()).unwrap_or(0);
        Ok(Self { kind: spanned.value, from, to: from + place(span.byte_len()).unwrap_or(0) })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Kind, E> {
        number(&value.to_string())
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Kind, E> {
        number(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        Number::from_f64(value).map(Kind::Number).ok_or_else(|| E::custom("JSON has no such number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Kind, E> {
        Ok(Kind::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Kind::Map(fields))
    }
}

/// As near as a number comes.
fn number<E: de::Error>(digits: &str) -> Result<Kind, E> {
    digits.parse().map(Kind::Number).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_and_members_their_order() {
        let text = "z: 130775545883395173123456789\nb: [1.10, -0, 1e2, 0.12345678901234567890123]\n\
            a: {o: 0x1f, t: '1.10', n: ~, ü: true}\n";
        let node = read(text).unwrap().remove(0);
        assert_eq!(
            node.to_json(text),
            "{\"z\":130775545883395173123456789,\"b\":[1.10,-0,1e2,0.12345678901234567890123],\
             \"a\":{\"o\":31,\"t\":\"1.10\",\"n\":null,\"ü\":true}}"
        );
        let aliased = "a: &x 1.10\nb: *x\n";
        assert_eq!(read(aliased).unwrap()[0].to_json(aliased), "{\"a\":1.10,\"b\":1.10}");
        let second = "a: 1\n---\nb: 1.20\n";
        assert_eq!(read(second).unwrap()[1].to_json(second), "{\"b\":1.20}");
        assert!(read("a: 1\na: 2\n").is_err());
    }

    #[test]
    fn a_quoted_text_is_read_again() {
        for text in
            ["", "a: b", "'\"\\'", "l1\nl2\r\n", "\u{7f}\u{85}\u{2028}\u{feff}\u{202e}", "订单 😀", "\t x "]
        {
            let node = read(&format!("x: {}\n", quoted(text))).unwrap().remove(0);
            assert_eq!(node.into_value()["x"], text, "{text:?}");
        }
    }
}
