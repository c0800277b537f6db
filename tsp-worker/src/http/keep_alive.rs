//! `Keep-Alive` of an answer: how long the receiver says that it keeps an idle connection open.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Below the keep-alive of common servers (15 to 30 s and more), so that we close first.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// We close this much before the receiver does, or in the middle of a short time: both clocks start at the
/// end of the answer, but not at the same moment.
const EARLIER: Duration = Duration::from_secs(1);

/// How long the connection of this answer may be idle; zero when it may not be used again.
pub(super) fn idle_limit(headers: &HeaderMap) -> Duration {
    let mut limit = IDLE_LIMIT;
    for line in headers.get_all(KEEP_ALIVE) {
        for parameter in line.to_str().unwrap_or_default().split(',') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let Ok(value) = value.trim().trim_matches('"').parse::<u64>() else { continue };
            let name = name.trim();
            if name.eq_ignore_ascii_case("timeout") {
                let kept = Duration::from_secs(value);
                limit = limit.min(kept.saturating_sub(EARLIER.min(kept / 2)));
            } else if name.eq_ignore_ascii_case("max") && value == 0 {
                limit = Duration::ZERO;
            }
        }
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_close_before_the_receiver_does() {
        for (lines, ms) in [
            (&[][..], 15_000),
            (&["timeout=60"], 15_000),
            (&["timeout=5"], 4_000),
            (&["timeout=2"], 1_000),
            (&["Timeout = 1"], 500),
            (&["timeout=0"], 0),
            (&["max=7, timeout=\"5\""], 4_000),
            (&["timeout=5, max=0"], 0),
            (&["timeout=9", "timeout=4"], 3_000),
            (&["timeout"], 15_000),
            (&["timeout=-1", "timeout=soon", "max=many", "x=0"], 15_000),
            (&["timeout=99999999999999999999999"], 15_000),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(KEEP_ALIVE, line.parse().unwrap());
            }
            assert_eq!(idle_limit(&headers), Duration::from_millis(ms), "{lines:?}");
        }
    }
}
