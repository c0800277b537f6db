//! Points in time on the wire: RFC 3339 with an offset in, UTC with milliseconds out (API.md section 1).

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use tsp_core::Timestamp;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

/// 0001-01-01T00:00:00Z.
const MIN_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
const MAX_MS: i64 = 253_402_300_799_999;

const SHAPE: &str = "must be a time with an offset, such as `2026-11-21T18:30:00+08:00`";

#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum TimeError {
    #[error("{SHAPE}")]
    Shape,
    #[error("must be a time that exists on the calendar and the clock")]
    NoSuchTime,
    #[error("must lie in the years 1 to 9999")]
    Range,
}

/// Reads an RFC 3339 time; what is finer than a millisecond is rounded up, so that nothing comes early.
/// The second 60 is the first one of the next minute.
pub fn parse_time(text: &str) -> Result<Timestamp, TimeError> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.len() > 64 || !text.is_ascii() {
        return Err(TimeError::Shape);
    }
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| bytes[at] != byte) || !matches!(bytes[10], b'T' | b't') {
        return Err(TimeError::Shape);
    }
    let (year, month, day) = (number(&bytes[0..4])?, number(&bytes[5..7])?, number(&bytes[8..10])?);
    let (hour, minute, second) = (number(&bytes[11..13])?, number(&bytes[14..16])?, number(&bytes[17..19])?);
    let (millis, rest) = fraction(&bytes[19..])?;
    let offset_minutes = offset(rest)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::NoSuchTime);
    }
    let days = days_since_1970(year, month, day).ok_or(TimeError::NoSuchTime)?;
    let seconds = ((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second;
    let ms = seconds * 1_000 + millis;
    if (MIN_MS..=MAX_MS).contains(&ms) { Ok(Timestamp::from_ms(ms)) } else { Err(TimeError::Range) }
}

fn number(digits: &[u8]) -> Result<i64, TimeError> {
    digits.iter().try_fold(0, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum * 10 + i64::from(byte - b'0')),
        _ => Err(TimeError::Shape),
    })
}

/// The milliseconds of `.123456`, rounded up (so up to 1,000), and what follows them.
fn fraction(bytes: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let Some((b'.', rest)) = bytes.split_first() else { return Ok((0, bytes)) };
    let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if count == 0 {
        return Err(TimeError::Shape);
    }
    let digit = |at: usize| if at < count { i64::from(rest[at] - b'0') } else { 0 };
    let millis = digit(0) * 100 + digit(1) * 10 + digit(2);
    let finer = rest[..count].iter().skip(3).any(|&byte| byte != b'0');
    Ok((millis + i64::from(finer), &rest[count..]))
}

/// Minutes east of UTC.
fn offset(bytes: &[u8]) -> Result<i64, TimeError> {
    match bytes {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return Err(TimeError::NoSuchTime);
            }
            let east = hours * 60 + minutes;
            Ok(if *sign == b'-' { -east } else { east })
        }
        _ => Err(TimeError::Shape),
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let date = jiff::civil::Date::new(i16::try_from(year).ok()?, month, day).ok()?;
    let since = date.since(jiff::civil::date(1970, 1, 1)).ok()?;
    Some(i64::from(since.get_days()))
}

/// A point in time in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        parse_time(&text).map(Self).map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl utoipa::ToSchema for Time {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_any_offset_and_rounds_up() {
        for (text, utc) in [
            ("2026-11-21T18:30:00+08:00", "2026-11-21T10:30:00.000Z"),
            ("2026-11-21t10:30:00z", "2026-11-21T10:30:00.000Z"),
            ("2026-11-21T10:30:00-03:30", "2026-11-21T14:00:00.000Z"),
            ("2026-11-21T10:30:00.5Z", "2026-11-21T10:30:00.500Z"),
            ("2026-11-21T10:30:00.1230Z", "2026-11-21T10:30:00.123Z"),
            ("2026-11-21T10:30:00.1230001Z", "2026-11-21T10:30:00.124Z"),
            ("2026-12-31T23:59:59.9991Z", "2027-01-01T00:00:00.000Z"),
            ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00.000Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
            ("1969-12-31T23:59:59.001Z", "1969-12-31T23:59:59.001Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59+14:00", "9999-12-31T09:59:59.000Z"),
        ] {
            assert_eq!(parse_time(text).map(|at| at.to_string()), Ok(utc.to_owned()), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T10:30:00",
            "2026-11-21 10:30:00Z",
            "2026-11-21T10:30Z",
            "2026-11-21T10:30:00+0800",
            "2026-11-21T10:30:00.Z",
            "2026-11-21T10:30:00Z[UTC]",
            "+026-11-21T10:30:00Z",
            "2026-11-21T10:30:00Zü",
        ] {
            assert_eq!(parse_time(text), Err(TimeError::Shape), "{text}");
        }
        for text in ["2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z"] {
            assert_eq!(parse_time(text), Err(TimeError::NoSuchTime), "{text}");
        }
        for text in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:60Z", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(parse_time(text), Err(TimeError::Range), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in MIN_MS..=MAX_MS) {
            let at = Timestamp::from_ms(ms);
            prop_assert_eq!(parse_time(&at.to_string()), Ok(at));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}", near in "[0-9TZ:.+-]{18,30}") {
            let _ = parse_time(&text);
            let _ = parse_time(&near);
        }
    }
}
