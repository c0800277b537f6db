//! Lengths of time as text: `500ms`, `30s`, `1h30m`, `7d` (API.md section 1).
//!
//! A duration is one or more whole numbers, each with a unit, in falling units `d h m s ms`, each unit
//! at most once. No sign, blanks, fractions or weeks: a setting that is read in two ways is worse than one
//! that is refused.

use std::fmt::Write as _;

use crate::time::Millis;

/// The longest duration a text may say: 100 years of 365 days. Far beyond every setting, and small enough
/// that adding it to a point in time cannot overflow.
pub const DURATION_MAX: Millis = Millis::from_days(36_500);

/// Longest text that is looked at, in bytes: all five units with full numbers fit in it.
const TEXT_BYTES_MAX: usize = 64;

/// Units in the order in which they must stand, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a duration. The message is meant for the person who wrote it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    #[error("a duration must not be empty, write for example `30s`")]
    Empty,
    #[error("a duration is at most {TEXT_BYTES_MAX} characters, write for example `1h30m`")]
    TooLongText,
    #[error("`{0}` is not a duration: a whole number must come first, write for example `30s`")]
    NoNumber(String),
    #[error("`{0}` is not a duration: each number needs a unit of d, h, m, s, ms, write for example `30s`")]
    NoUnit(String),
    #[error("`{0}` is not a duration: units must fall (d, h, m, s, ms) and stand once, for example `1h30m`")]
    UnitOrder(String),
    #[error("`{0}` is longer than the longest duration, `36500d`")]
    TooLong(String),
}

/// Reads a duration; `0s` is a valid one, so fields that need a positive length must say so themselves.
///
/// # Errors
/// Anything outside the grammar of the module doc, and anything above [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Millis, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(DurationError::TooLongText);
    }
    let mut rest = text;
    let mut units_left = &UNITS[..];
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (digits, tail) = split_where(rest, |b| !b.is_ascii_digit());
        if digits.is_empty() {
            return Err(DurationError::NoNumber(text.to_owned()));
        }
        let (unit, tail) = split_where(tail, |b| !b.is_ascii_lowercase());
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(DurationError::NoUnit(text.to_owned()));
        }
        let Some(place) = units_left.iter().position(|(name, _)| *name == unit) else {
            return Err(DurationError::UnitOrder(text.to_owned()));
        };
        total_ms = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(units_left[place].1))
            .and_then(|part_ms| part_ms.checked_add(total_ms))
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        units_left = &units_left[place + 1..];
        rest = tail;
    }
    match i64::try_from(total_ms) {
        Ok(ms) if ms <= DURATION_MAX.ms() => Ok(Millis::from_ms(ms)),
        _ => Err(DurationError::TooLong(text.to_owned())),
    }
}

/// Writes a duration in its one canonical form: largest units first, zero parts left out (`90m` comes
/// back as `1h30m`), `0s` for zero.
///
/// What [`parse_duration`] gave is read back as the same length. A negative length, which only a
/// difference of two points can be, gets a leading `-` and is not a setting.
pub fn format_duration(length: Millis) -> String {
    let mut left_ms = length.ms().unsigned_abs();
    if left_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = if length.ms() < 0 { "-".to_owned() } else { String::new() };
    for (unit, unit_ms) in UNITS {
        let count = left_ms / unit_ms;
        left_ms %= unit_ms;
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{count}{unit}");
        }
    }
    text
}

/// `text` cut before its first byte for which `stop` holds. `stop` must hold for every byte above ASCII,
/// so that the cut never falls inside a character.
fn split_where(text: &str, stop: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_the_grammar() {
        for (text, ms, canonical) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("15m", 900_000, "15m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("1d2h3m4s5ms", 93_784_005, "1d2h3m4s5ms"),
            ("1d5ms", 86_400_005, "1d5ms"),
            ("90m", 5_400_000, "1h30m"),
            ("1h90m", 9_000_000, "2h30m"),
            ("24h", 86_400_000, "1d"),
            ("1500ms", 1_500, "1s500ms"),
            ("0s", 0, "0s"),
            ("0ms", 0, "0s"),
            ("1h0m", 3_600_000, "1h"),
            ("36500d", 3_153_600_000_000, "36500d"),
        ] {
            assert_eq!(parse_duration(text), Ok(Millis::from_ms(ms)), "{text}");
            assert_eq!(format_duration(Millis::from_ms(ms)), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            " ",
            "5",
            "s",
            "1w",
            "1y",
            "5 s",
            " 5s",
            "5s ",
            "-5s",
            "+5s",
            "1.5s",
            "1e3s",
            "1m1h",
            "1s1s",
            "1ms1s",
            "5S",
            "5Ms",
            "1h30",
            "h1",
            "５s",
            "5秒",
            "1h,30m",
            "PT5S",
            "5sec",
            "5us",
            "36501d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(!error.ends_with('.') && !error.starts_with(char::is_uppercase), "{error}");
        }
        assert_eq!(parse_duration(&"1".repeat(65)), Err(DurationError::TooLongText));
        assert_eq!(
            parse_duration("1m1h").unwrap_err().to_string(),
            "`1m1h` is not a duration: units must fall (d, h, m, s, ms) and stand once, for example `1h30m`"
        );
    }

    #[test]
    fn writes_lengths_that_are_no_settings() {
        assert_eq!(format_duration(Millis::from_ms(-61_000)), "-1m1s");
        assert_eq!(format_duration(Millis::from_ms(i64::MIN)), "-106751991167d7h12m55s808ms");
    }

    proptest! {
        #[test]
        fn round_trips(ms in 0..=DURATION_MAX.ms()) {
            let text = format_duration(Millis::from_ms(ms));
            prop_assert_eq!(parse_duration(&text), Ok(Millis::from_ms(ms)));
        }

        #[test]
        fn what_is_read_is_written_canonically(text in "([0-9]{1,3}d)?([0-9]{1,3}h)?([0-9]{1,3}m)?([0-9]{1,3}s)?([0-9]{1,3}ms)?") {
            if let Ok(length) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&format_duration(length)), Ok(length));
            } else {
                prop_assert!(text.is_empty());
            }
        }

        #[test]
        fn never_panics(text in any::<String>(), near in "[0-9dhms -+.]{0,70}", ms in any::<i64>()) {
            let _ = parse_duration(&text);
            let _ = parse_duration(&near);
            let _ = format_duration(Millis::from_ms(ms));
        }
    }
}
