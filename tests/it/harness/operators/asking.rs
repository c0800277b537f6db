//! A question that is asked until it is answered, and what is known of it then.

use std::fmt::Debug;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tsp_core::Timestamp;

use crate::harness::{Answer, Api, header, now};

/// Longer than the service itself waits for its slowest node before it answers.
const ANSWER: Duration = Duration::from_secs(8);
/// Longer than any fault lasts.
const AT_LAST: Duration = Duration::from_mins(2);
const TRY_EVERY: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks again and again for what no signal tells, up to an end.
#[derive(Debug)]
pub(super) struct Looks {
    pause: Interval,
    end: Instant,
}

impl Looks {
    pub(super) fn begin() -> Self {
        let mut pause = interval(LOOK_EVERY);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pause, end: Instant::now() + AT_LAST }
    }

    /// Before each try.
    pub(super) async fn next(&mut self, what: &(dyn Debug + Sync)) {
        self.pause.tick().await;
        assert!(Instant::now() < self.end, "it did not come within {AT_LAST:?}: {what:#?}");
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct CallAnswer {
    /// When it was asked first.
    pub(super) since: Timestamp,
    /// When it was answered.
    pub(super) at: Timestamp,
    /// Tries before that with no answer. Each was done, or not, or will be when the process that has it goes on.
    pub(super) unanswered: u32,
    pub(super) status: u16,
    pub(super) body: Value,
}

/// Whom to ask: any of these, and the next one when one does not answer.
#[derive(Clone, Debug)]
pub(super) struct Apis {
    all: Vec<Api>,
    turn: usize,
}

impl Apis {
    pub(super) fn new(all: &[Api], turn: usize) -> Self {
        Self { all: all.to_vec(), turn }
    }

    pub(super) fn all(&self) -> &[Api] {
        &self.all
    }

    pub(super) async fn get(&mut self, path: &str) -> CallAnswer {
        self.ask(Method::GET, path, None, None).await
    }

    pub(super) async fn act(&mut self, path: &str) -> CallAnswer {
        self.ask(Method::POST, path, None, None).await
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> CallAnswer {
        self.ask(Method::POST, path, Some(body), None).await
    }

    /// Under a key that makes it once, however often it is asked.
    pub(super) async fn post_once(&mut self, path: &str, body: &Value, key: &str) -> CallAnswer {
        self.ask(Method::POST, path, Some(body), Some(key)).await
    }

    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        once: Option<&str>,
    ) -> CallAnswer {
        let (since, end) = (now(), Instant::now() + AT_LAST);
        let headers: Vec<_> = once.map(|key| header("idempotency-key", key)).into_iter().collect();
        let mut pause = interval(TRY_EVERY);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut unanswered, url) = (0, format!("/api/v1{path}"));
        loop {
            pause.tick().await;
            self.turn += 1;
            let api = &self.all[self.turn % self.all.len()];
            let bytes = body.map(|body| body.to_string().into_bytes());
            let call = api.try_send(method.clone(), &url, &headers, bytes);
            match timeout(ANSWER, call).await {
                Ok(Ok(answer)) if !is_put_off(&answer) => {
                    let (status, body) = (answer.status, answer.json());
                    assert!(status < 500, "{} was answered {status}: {}", answer.call, answer.text);
                    return CallAnswer { since, at: now(), unanswered, status, body };
                }
                other => {
                    assert!(
                        Instant::now() < end,
                        "`{method} {path}` had no answer in {AT_LAST:?}: {other:?}"
                    );
                    unanswered += 1;
                }
            }
        }
    }
}

/// An answer that says no more than that it is to be tried again.
fn is_put_off(answer: &Answer) -> bool {
    answer.status == 503 || answer.status == 409 && answer.json()["code"] == "idempotency_in_progress"
}
