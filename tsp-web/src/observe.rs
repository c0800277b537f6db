//! Figures about requests. Handles are kept, because looking one up costs ten times as much as using it.

use http::StatusCode;
use metrics::{Counter, Histogram};
use tokio::time::Duration;
use tsp_store::tasks::SubmitOutcome;

/// Labels of the classes of status codes, from 100 on.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Made once, after the recorder was installed; without one it costs nothing and counts nothing.
pub(crate) struct HttpMetrics {
    answers: [Counter; CLASSES.len()],
    seconds: Histogram,
    submitted: Counter,
}

impl HttpMetrics {
    pub(crate) fn new() -> Self {
        metrics::describe_counter!("tsp_http_requests_total", "answered requests by class of status");
        metrics::describe_histogram!("tsp_http_seconds", "time from a request's head to its answer");
        metrics::describe_counter!("tsp_tasks_submitted_total", "tasks made by submits and runs by hand");
        Self {
            answers: CLASSES.map(|class| metrics::counter!("tsp_http_requests_total", "status" => class)),
            seconds: metrics::histogram!("tsp_http_seconds"),
            submitted: metrics::counter!("tsp_tasks_submitted_total"),
        }
    }

    /// Counts what was made, not what was found or moved.
    pub(crate) fn submitted<'a>(&self, done: impl IntoIterator<Item = &'a SubmitOutcome>) {
        let made = done.into_iter().filter(|done| matches!(done, SubmitOutcome::Created(_))).count();
        self.submitted.increment(made as u64);
    }

    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.increment(1);
        }
        self.seconds.record(took);
    }
}
