//! The `TSP-Result` header, by which a receiver decides whatever its status (API.md section 5):
//! `done | retry[; after=<whole seconds>] | fail | snooze; until=<RFC 3339>`.

use http::HeaderMap;
use http::header::HeaderName;
use tsp_core::outcome::{Outcome, RetryDelay};
use tsp_core::time::{Millis, Timestamp};

pub(super) const TSP_RESULT: HeaderName = HeaderName::from_static("tsp-result");

/// A snooze may reach as far ahead as a submit.
const SNOOZE_MAX: Millis = Millis::from_days(10 * 366);

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResultHeader {
    Absent,
    /// Unknown words, unknown or missing parameters, or two lines.
    Invalid,
    Decided(Outcome),
}

pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> ResultHeader {
    let mut lines = headers.get_all(TSP_RESULT).iter();
    let Some(line) = lines.next() else { return ResultHeader::Absent };
    let decided = line.to_str().ok().filter(|_| lines.next().is_none()).and_then(|text| parse(text, now));
    decided.map_or(ResultHeader::Invalid, ResultHeader::Decided)
}

fn parse(text: &str, now: Timestamp) -> Option<Outcome> {
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let word = parts.next()?.to_ascii_lowercase();
    let parameter = match parts.next() {
        None => None,
        Some(part) => Some(part.split_once('=')?),
    };
    if parts.next().is_some() {
        return None;
    }
    match (word.as_str(), parameter) {
        ("done", None) => Some(Outcome::Done),
        ("fail", None) => Some(Outcome::Fail),
        ("retry", None) => Some(Outcome::Retry(RetryDelay::Backoff)),
        ("retry", Some((name, value))) if name.eq_ignore_ascii_case("after") => {
            Some(Outcome::Retry(RetryDelay::Exactly(whole_seconds(value)?)))
        }
        ("snooze", Some((name, value))) if name.eq_ignore_ascii_case("until") => {
            let until = rfc_3339(value)?;
            (until <= now.plus(SNOOZE_MAX)).then_some(Outcome::Snooze { until })
        }
        _ => None,
    }
}

/// Decimal digits only; more than fits is the longest there is.
pub(super) fn whole_seconds(text: &str) -> Option<Millis> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(Millis::MAX, Millis::from_secs))
}

/// Finer than a millisecond is rounded up (API.md section 1). The offset is required.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    // jiff reads more forms (blanks, zone names in brackets) than the header allows.
    let digits_at = |from: usize, to: usize| {
        text.as_bytes().get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let head =
        digits_at(0, 4) && digits_at(5, 7) && digits_at(8, 10) && digits_at(11, 13) && digits_at(17, 19);
    let separated = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    let zone = matches!(text.as_bytes(), [.., b'Z' | b'z'] | [.., b'+' | b'-', _, _, b':', _, _]);
    if !head || !separated || !zone {
        return None;
    }
    let at: jiff::Timestamp = text.parse().ok()?;
    let floor = at.as_millisecond();
    let is_finer = at.as_nanosecond().rem_euclid(1_000_000) != 0;
    Some(Timestamp::from_ms(if is_finer && at.as_nanosecond() > 0 { floor + 1 } else { floor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    fn of(lines: &[&str]) -> ResultHeader {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TSP_RESULT, line.parse().unwrap());
        }
        read(&headers, NOW)
    }

    #[test]
    fn the_four_words() {
        let retry = |seconds| Outcome::Retry(RetryDelay::Exactly(Millis::from_secs(seconds)));
        let until = Outcome::Snooze { until: NOW };
        for (text, outcome) in [
            ("done", Outcome::Done),
            ("DONE", Outcome::Done),
            ("fail", Outcome::Fail),
            ("retry", Outcome::Retry(RetryDelay::Backoff)),
            ("retry; after=30", retry(30)),
            ("Retry;After=0", retry(0)),
            ("retry ; after=86400", retry(86_400)),
            ("snooze; until=2026-11-21T10:30:00Z", until),
            ("snooze; until=2026-11-21T18:30:00+08:00", until),
            ("snooze; until=2026-11-21T10:29:59.9990001Z", until),
        ] {
            assert_eq!(of(&[text]), ResultHeader::Decided(outcome), "{text}");
        }
    }

    #[test]
    fn everything_else_is_unreadable() {
        for text in [
            "",
            "ok",
            "done; after=3",
            "retry; after=1.5",
            "retry; after=-1",
            "retry; after=",
            "retry; after=\"3\"",
            "retry; in=3",
            "retry; after=3; x=1",
            "retry after=3",
            "retry;",
            "snooze",
            "snooze; until=tomorrow",
            "snooze; until=2026-11-21",
            "snooze; until=2026-11-21T10:30:00",
            "snooze; until=2026-11-21T10:30:00+08:00[Asia/Shanghai]",
            "snooze; until=2099-01-01T00:00:00Z",
        ] {
            assert_eq!(of(&[text]), ResultHeader::Invalid, "{text}");
        }
        assert_eq!(of(&["done", "done"]), ResultHeader::Invalid);
        assert_eq!(of(&[]), ResultHeader::Absent);
    }

    #[test]
    fn a_huge_number_is_as_long_as_can_be() {
        assert_eq!(whole_seconds("99999999999999999999999"), Some(Millis::MAX));
    }
}
