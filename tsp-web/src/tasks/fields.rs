//! Reads the fields of a JSON object without building it: each stays a piece of the body until it is needed.
//!
//! This is what a submit is read with, so it copies nothing, and it goes on after a mistake: one answer
//! names all of them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tsp_api::{ErrorCode, Errors};

use crate::body;

/// So many unknown fields are named; a body of nothing else must not make a long answer.
const UNKNOWN_NAMED_MAX: usize = 10;
/// So much of an unknown name is repeated.
const UNKNOWN_NAME_CHARS_MAX: usize = 64;

/// The values of the fields `N` names stand for, in that order; absent and null ones are `None`.
pub(super) type Values<'a, const N: usize> = [Option<&'a RawValue>; N];

/// Reads the object `text`. `place` is put before the names of wrong fields (`retry.`).
///
/// Mistakes in single fields go to `errors`.
///
/// # Errors
/// When `text` is no JSON, or no object (then it is [`serde_json::error::Category::Data`]).
pub(super) fn read<'a, const N: usize>(
    text: &'a [u8],
    names: &'static [&'static str; N],
    place: &str,
    errors: &mut Errors,
) -> serde_json::Result<Values<'a, N>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let values = Object { names, place, errors }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(values)
}

struct Object<'e, const N: usize> {
    names: &'static [&'static str; N],
    place: &'e str,
    errors: &'e mut Errors,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Object<'_, N> {
    type Value = Values<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Object<'_, N> {
    type Value = Values<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        let mut seen = [false; N];
        let mut unknown = 0;
        while let Some(name) = map.next_key_seed(FieldName { names: self.names })? {
            match name {
                FieldMatch::Known(at) => {
                    let value: &'de RawValue = map.next_value()?;
                    if std::mem::replace(&mut seen[at], true) {
                        self.errors.add(format!("{}{}", self.place, self.names[at]), body::DOUBLE);
                    }
                    values[at] = Some(value).filter(|value| value.get() != "null");
                }
                FieldMatch::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    unknown += 1;
                    if unknown <= UNKNOWN_NAMED_MAX {
                        let known = self.names.join("`, `");
                        let message = format!("does not exist here; known are `{known}`");
                        self.errors.add_as(ErrorCode::UnknownField, format!("{}{name}", self.place), message);
                    }
                }
            }
        }
        Ok(values)
    }
}

/// The index of a field's name in the list of names.
struct FieldName<const N: usize> {
    names: &'static [&'static str; N],
}

enum FieldMatch {
    Known(usize),
    Unknown(String),
}

impl<'de, const N: usize> DeserializeSeed<'de> for FieldName<N> {
    type Value = FieldMatch;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldMatch, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for FieldName<N> {
    type Value = FieldMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<FieldMatch, E> {
        let known = self.names.iter().position(|known| *known == name);
        Ok(known.map_or_else(
            || FieldMatch::Unknown(name.chars().take(UNKNOWN_NAME_CHARS_MAX).collect()),
            FieldMatch::Known,
        ))
    }
}

/// A JSON string, without a copy where it holds no escapes. `None` for anything else.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// [`text`], with the mistake noted under `field`.
pub(super) fn text_of<'a>(
    value: Option<&'a RawValue>,
    field: &str,
    errors: &mut Errors,
) -> Option<Cow<'a, str>> {
    let read = text(value?);
    if read.is_none() {
        errors.add(field, "must be a string");
    }
    read
}

/// A whole number from 0 on; `None` for anything else, also for `1.0`.
pub(super) fn number(value: &RawValue) -> Option<u64> {
    value.get().parse().ok()
}

/// The elements of the one array that an object holds under `name`, unread.
///
/// # Errors
/// As [`read`]; also when the array is missing or no array.
pub(super) fn read_array<'a>(
    text: &'a [u8],
    name: &'static [&'static str; 1],
    errors: &mut Errors,
) -> serde_json::Result<Option<Vec<&'a RawValue>>> {
    let [value] = read(text, name, "", errors)?;
    let Some(value) = value else {
        errors.missing(name[0]);
        return Ok(None);
    };
    if !value.get().starts_with('[') {
        errors.add(name[0], "must be an array");
        return Ok(None);
    }
    serde_json::from_str(value.get()).map(Some).map_err(serde_json::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];

    fn of(text: &str) -> (Values<'_, 2>, Vec<String>) {
        let mut errors = Errors::new();
        let values = read(text.as_bytes(), &NAMES, "x.", &mut errors).unwrap();
        (values, errors.into_fields().into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn fields_stay_as_they_are_written() {
        let (values, wrong) = of(" { \"b\" : {\"z\": [1.50 ,null]} , \"a\":null } ");
        assert!(values[0].is_none());
        assert_eq!(values[1].unwrap().get(), "{\"z\": [1.50 ,null]}");
        assert_eq!(wrong, Vec::<String>::new());
        let (values, _) = of("{\"\\u0061\": \"x\"}");
        assert_eq!(values[0].unwrap().get(), "\"x\"");
    }

    #[test]
    fn unknown_and_repeated_fields_are_all_named() {
        let (_, wrong) = of("{\"c\":1,\"a\":1,\"a\":2,\"d\":{}}");
        assert_eq!(wrong, ["x.c", "x.a", "x.d"]);
        let many: Vec<String> = (0..1_000).map(|n| format!("\"n{n}\":0")).collect();
        assert_eq!(of(&format!("{{{}}}", many.join(","))).1.len(), UNKNOWN_NAMED_MAX);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let mut errors = Errors::new();
        for (text, data) in
            [("[]", true), ("7", true), ("null", true), ("", false), ("{", false), ("{} {}", false)]
        {
            let error = read(text.as_bytes(), &NAMES, "", &mut errors).unwrap_err();
            assert_eq!(error.is_data(), data, "{text}: {error}");
        }
    }

    #[test]
    fn texts_and_numbers() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert!(matches!(text(&raw("\"plain\"")), Some(Cow::Borrowed("plain"))));
        assert_eq!(text(&raw("\"a\\n\\u00fc\"")).unwrap(), "a\nü");
        assert_eq!(text(&raw("\"\\ud800\"")), None);
        assert_eq!(text(&raw("7")), None);
        assert_eq!(number(&raw("7")), Some(7));
        for wrong in ["-7", "7.0", "7e0", "\"7\"", "99999999999999999999"] {
            assert_eq!(number(&raw(wrong)), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), near in "[{}\\[\\]\":,ab0-9\\\\ nul]{0,60}") {
            let mut errors = Errors::new();
            let _ = read(&bytes, &NAMES, "", &mut errors);
            let _ = read(near.as_bytes(), &NAMES, "", &mut errors);
            let _ = read_array(near.as_bytes(), &["a"], &mut errors);
        }
    }
}
