//! A value of a statement: bound to a prepared one, written into a text.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::mysql::MySqlArguments;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'v> {
    Null,
    Int(i64),
    Bytes(Cow<'v, [u8]>),
    Text(Cow<'v, str>),
}

impl Value<'_> {
    /// A literal without quotes and escapes: the server reads it alike whatever its `sql_mode` is.
    pub(crate) fn write(&self, text: &mut String) {
        match self {
            Self::Null => text.push_str("NULL"),
            Self::Int(number) => {
                // A `String` takes what is written to it.
                let _ = write!(text, "{number}");
            }
            Self::Bytes(bytes) => write_hex(bytes, text),
            Self::Text(value) => {
                text.push_str("_utf8mb4 ");
                write_hex(value.as_bytes(), text);
            }
        }
    }

    /// In bytes, and 0 for what is no text.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Text(text) => text.len(),
        }
    }

    pub(crate) fn bind(&self, arguments: &mut MySqlArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Null => arguments.add(None::<i64>),
            Self::Int(number) => arguments.add(*number),
            Self::Bytes(bytes) => arguments.add(&**bytes),
            Self::Text(value) => arguments.add(&**value),
        }
    }
}

fn write_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.reserve(2 * bytes.len() + 3);
    text.push_str("x'");
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text.push('\'');
}

macro_rules! from_numbers {
    ($($number:ty)*) => {
        $(impl From<$number> for Value<'_> {
            fn from(value: $number) -> Self {
                Self::Int(i64::from(value))
            }
        })*
    };
}
from_numbers!(i8 u8 u16 i32 u32 i64);

impl<'v> From<&'v str> for Value<'v> {
    fn from(value: &'v str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl<'v> From<&'v String> for Value<'v> {
    fn from(value: &'v String) -> Self {
        value.as_str().into()
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(value: &'v [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(value))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(value))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_has_neither_quotes_nor_escapes_to_get_wrong() {
        let literal = |value: Value<'_>| {
            let mut text = String::new();
            value.write(&mut text);
            text
        };
        assert_eq!(literal(None::<i64>.into()), "NULL");
        assert_eq!(literal(i64::MIN.into()), "-9223372036854775808");
        assert_eq!(literal("it's \\ \u{1F980}".into()), "_utf8mb4 x'69742773205c20f09fa680'");
        assert_eq!(literal([0, 0xff].as_slice().into()), "x'00ff'");
        assert_eq!(literal("".into()), "_utf8mb4 x''");
    }
}
