//! `Retry-After`: whole seconds or an HTTP date (docs/reference/http-callbacks.md section 8).

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use tsp_core::time::{Millis, Timestamp};

use super::tsp_result::whole_seconds;

/// The server's `Date` replaces our clock when they differ by more than this.
const CLOCKS_AGREE: Millis = Millis::from_secs(5);

/// No `Retry-After` makes a whole config wait longer, so that a target cannot park it for a year.
pub(super) const PARK_MAX: Millis = Millis::from_hours(1);

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryAfter {
    Absent,
    Invalid,
    Delay(Millis),
}

/// Of several lines the first valid one counts. A date in the past is no delay.
pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> RetryAfter {
    let mut answer = RetryAfter::Absent;
    for line in headers.get_all(RETRY_AFTER) {
        match line.to_str().ok().and_then(|text| parse(text.trim(), headers, now)) {
            Some(delay) => return RetryAfter::Delay(delay),
            None => answer = RetryAfter::Invalid,
        }
    }
    answer
}

fn parse(text: &str, headers: &HeaderMap, now: Timestamp) -> Option<Millis> {
    if let Some(seconds) = whole_seconds(text) {
        return Some(seconds);
    }
    let until = timestamp(httpdate::parse_http_date(text).ok()?);
    Some(until.since(receiver_now(headers, now)).max(Millis::ZERO))
}

/// The receiver's own time where it says it and ours is another.
fn receiver_now(headers: &HeaderMap, now: Timestamp) -> Timestamp {
    let theirs = headers.get(DATE).and_then(|date| date.to_str().ok());
    match theirs.and_then(|date| httpdate::parse_http_date(date).ok()).map(timestamp) {
        Some(theirs) if theirs.since(now).max(now.since(theirs)) > CLOCKS_AGREE => theirs,
        _ => now,
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    at.duration_since(UNIX_EPOCH).map_or(Timestamp::ZERO, |since| Timestamp::ZERO.plus(since.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sat, 21 Nov 2026 10:30:00 GMT.
    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    fn of(lines: &[&str], date: Option<&str>) -> RetryAfter {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(RETRY_AFTER, line.parse().unwrap());
        }
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        read(&headers, NOW)
    }

    fn seconds(count: i64) -> RetryAfter {
        RetryAfter::Delay(Millis::from_secs(count))
    }

    #[test]
    fn both_forms() {
        assert_eq!(of(&["0"], None), seconds(0));
        assert_eq!(of(&["120"], None), seconds(120));
        assert_eq!(of(&["99999999999"], None), seconds(99_999_999_999));
        assert_eq!(of(&["Sat, 21 Nov 2026 10:31:00 GMT"], None), seconds(60));
        assert_eq!(of(&["Saturday, 21-Nov-26 10:31:00 GMT"], None), seconds(60));
        assert_eq!(of(&["Sat Nov 21 10:31:00 2026"], None), seconds(60));
        assert_eq!(of(&["Sat, 21 Nov 2026 10:00:00 GMT"], None), seconds(0));
    }

    #[test]
    fn nothing_else() {
        for text in ["-1", "+1", "1.5", "soon", "", "1, 2", "2026-11-21T10:31:00Z"] {
            assert_eq!(of(&[text], None), RetryAfter::Invalid, "{text}");
        }
        assert_eq!(of(&[], None), RetryAfter::Absent);
    }

    #[test]
    fn the_first_valid_line_counts() {
        assert_eq!(of(&["soon", "7", "9"], None), seconds(7));
    }

    #[test]
    fn the_servers_clock_corrects_ours() {
        let until = ["Sat, 21 Nov 2026 11:31:00 GMT"];
        assert_eq!(of(&until, Some("Sat, 21 Nov 2026 11:30:00 GMT")), seconds(60));
        // Close enough: ours is finer.
        assert_eq!(of(&until, Some("Sat, 21 Nov 2026 10:30:04 GMT")), seconds(3_660));
        assert_eq!(of(&until, Some("never")), seconds(3_660));
    }
}
