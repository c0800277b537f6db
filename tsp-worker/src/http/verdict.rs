//! From an answer to a verdict (docs/reference/http-callbacks.md section 11): first `TSP-Result`, then the
//! config's `non_retryable_status`, then the table of statuses.

use http::StatusCode;
use tsp_core::config::TaskConfig;
use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::Task;
use tsp_core::time::{Millis, Timestamp};

use super::client::Answer;
use super::retry_after::{self, RetryAfter};
use super::tsp_result::{self, ResultHeader};

/// `done` without anything to say.
const OK: &str = "ok";

/// The verdict on an answer. `now` is for dates in it.
pub fn judge(answer: &Answer, task: &Task, config: &TaskConfig, now: Timestamp) -> Verdict {
    let mut verdict = match tsp_result::read(&answer.headers, now) {
        ResultHeader::Decided(outcome) => Verdict::new(outcome, "tsp_result"),
        ResultHeader::Absent => by_status(answer, task, config, now),
        ResultHeader::Invalid => {
            metrics::counter!("tsp_answer_headers_ignored_total", "header" => "tsp-result").increment(1);
            unreadable(by_status(answer, task, config, now))
        }
    };
    verdict.http_status = Some(answer.status.as_u16());
    verdict.excerpt = excerpt(&answer.excerpt);
    verdict
}

/// The receiver wanted to say something and did not manage to: neither its success nor its failure is certain.
fn unreadable(by_status: Verdict) -> Verdict {
    let outcome = match by_status.outcome {
        retry @ Outcome::Retry(_) => retry,
        _ => Outcome::Retry(RetryDelay::Backoff),
    };
    Verdict { outcome, reason: "bad_result".into(), ..by_status }
}

fn by_status(answer: &Answer, task: &Task, config: &TaskConfig, now: Timestamp) -> Verdict {
    let status = answer.status;
    let delay = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => wait(answer, now),
        _ => None,
    };
    let mut verdict = if task.retry(&config.spec.retry).non_retryable_status.contains(&status.as_u16()) {
        Verdict::fail("non_retryable_status")
    } else if status == StatusCode::ACCEPTED && config.spec.asynchronous.enabled {
        Verdict::new(Outcome::Accepted, "accepted")
    } else if status.is_success() {
        Verdict::new(Outcome::Done, OK)
    } else if status.is_redirection() {
        Verdict::fail("redirect_not_followed")
    } else if status == StatusCode::GONE {
        Verdict::fail("gone")
    } else {
        let delay = delay.map_or(RetryDelay::Backoff, RetryDelay::RetryAfter);
        Verdict::new(Outcome::Retry(delay), "http_status")
    };
    verdict.park = delay.map(|delay| delay.min(retry_after::PARK_MAX));
    verdict
}

fn wait(answer: &Answer, now: Timestamp) -> Option<Millis> {
    match retry_after::read(&answer.headers, now) {
        RetryAfter::Delay(delay) => Some(delay),
        RetryAfter::Absent => None,
        RetryAfter::Invalid => {
            metrics::counter!("tsp_answer_headers_ignored_total", "header" => "retry-after").increment(1);
            None
        }
    }
}

/// The kept bytes as text. A character that the cut at 4 KiB has broken is left out.
fn excerpt(bytes: &[u8]) -> Option<Box<str>> {
    if bytes.is_empty() {
        return None;
    }
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    Some(String::from_utf8_lossy(whole).into())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http::fixtures::{NOW, config, task};

    fn judged(status: u16, headers: &[(&'static str, &str)], config: &TaskConfig) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let answer =
            Answer { status: StatusCode::from_u16(status).unwrap(), headers: map, excerpt: Vec::new() };
        judge(&answer, &task(), config, NOW)
    }

    #[test]
    fn the_table_of_statuses() {
        let config = config("http://example.com/");
        let backoff = Outcome::Retry(RetryDelay::Backoff);
        for (status, outcome, reason) in [
            (200, Outcome::Done, "ok"),
            (202, Outcome::Done, "ok"),
            (204, Outcome::Done, "ok"),
            (101, backoff, "http_status"),
            (301, Outcome::Fail, "redirect_not_followed"),
            (304, Outcome::Fail, "redirect_not_followed"),
            (410, Outcome::Fail, "gone"),
            (400, backoff, "http_status"),
            (404, backoff, "http_status"),
            (409, backoff, "http_status"),
            (421, backoff, "http_status"),
            (429, backoff, "http_status"),
            (500, backoff, "http_status"),
            (503, backoff, "http_status"),
            (599, backoff, "http_status"),
            (799, backoff, "http_status"),
        ] {
            let verdict = judged(status, &[], &config);
            assert_eq!((verdict.outcome, &*verdict.reason), (outcome, reason), "{status}");
            assert_eq!((verdict.http_status, verdict.park), (Some(status), None), "{status}");
        }
    }

    #[test]
    fn the_configs_policy_comes_before_the_table() {
        let mut config = config("http://example.com/");
        config.spec.asynchronous.enabled = true;
        assert_eq!(judged(202, &[], &config).outcome, Outcome::Accepted);
        assert_eq!(judged(200, &[], &config).outcome, Outcome::Done);
        config.spec.retry.non_retryable_status = [422].into_iter().collect();
        let verdict = judged(422, &[], &config);
        assert_eq!((verdict.outcome, &*verdict.reason), (Outcome::Fail, "non_retryable_status"));
    }

    #[test]
    fn the_receivers_header_comes_before_everything() {
        let mut config = config("http://example.com/");
        config.spec.retry.non_retryable_status = [500].into_iter().collect();
        let verdict = judged(500, &[("tsp-result", "done")], &config);
        assert_eq!((verdict.outcome, &*verdict.reason), (Outcome::Done, "tsp_result"));
        let verdict = judged(200, &[("tsp-result", "retry; after=30")], &config);
        assert_eq!(verdict.outcome, Outcome::Retry(RetryDelay::Exactly(Millis::from_secs(30))));
    }

    #[test]
    fn what_the_receiver_says_unreadably_is_a_retry() {
        let mut config = config("http://example.com/");
        config.spec.asynchronous.enabled = true;
        config.spec.retry.non_retryable_status = [500].into_iter().collect();
        for status in [200, 202, 302, 404, 410, 500] {
            let verdict = judged(status, &[("tsp-result", "maybe")], &config);
            let seen = (verdict.outcome, &*verdict.reason, verdict.http_status);
            assert_eq!(seen, (Outcome::Retry(RetryDelay::Backoff), "bad_result", Some(status)));
        }
        let verdict = judged(503, &[("tsp-result", "done; x"), ("retry-after", "7")], &config);
        let wait = Millis::from_secs(7);
        assert_eq!(
            (verdict.outcome, verdict.park),
            (Outcome::Retry(RetryDelay::RetryAfter(wait)), Some(wait))
        );
        assert_eq!(verdict.reason, "bad_result");
    }

    #[test]
    fn retry_after_counts_on_429_and_503_and_parks_the_config() {
        let config = config("http://example.com/");
        for status in [429, 503] {
            let verdict = judged(status, &[("retry-after", "120")], &config);
            let delay = Millis::from_secs(120);
            assert_eq!(verdict.outcome, Outcome::Retry(RetryDelay::RetryAfter(delay)));
            assert_eq!(verdict.park, Some(delay));
        }
        assert_eq!(judged(503, &[("retry-after", "99999999999")], &config).park, Some(retry_after::PARK_MAX));
        assert_eq!(judged(503, &[("retry-after", "1.5")], &config).park, None);
        let verdict = judged(500, &[("retry-after", "120")], &config);
        assert_eq!((verdict.outcome, verdict.park), (Outcome::Retry(RetryDelay::Backoff), None));
    }

    #[test]
    fn an_excerpt_is_whole_characters() {
        assert_eq!(excerpt(b""), None);
        assert_eq!(excerpt("aé".as_bytes()).as_deref(), Some("aé"));
        assert_eq!(excerpt(&"aé".as_bytes()[..2]).as_deref(), Some("a"));
        assert_eq!(excerpt(&[b'a', 0xff, b'b']).as_deref(), Some("a\u{fffd}b"));
    }
}
