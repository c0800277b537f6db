//! What every test stands on: the real executable as child processes, a receiver that the test
//! programs and waits on, and a small client for the API.
//!
//! Nothing here sleeps. A test waits on the n-th arrival, on the end of a process, or, where only
//! the API or the metrics can say it, through [`api::Api::wait_until`] and [`tsp::Tsp::metrics_until`], which poll.

pub(crate) mod api;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod documents;
pub(crate) mod edges;
pub(crate) mod figures;
pub(crate) mod ledger;
pub(crate) mod mode;
pub(crate) mod operators;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod rng;
pub(crate) mod scene;
pub(crate) mod servers;
pub(crate) mod temp;
pub(crate) mod tsp;
pub(crate) mod turn;
pub(crate) mod wire;

use std::time::Duration;

pub(crate) use api::{Answer, Api, header};
pub(crate) use documents::{Config, Task, backoff, seldom, usual_timeout};
pub(crate) use mode::only_on;
pub(crate) use process::BOOTSTRAP_KEY;
pub(crate) use receiver::{Arrival, Gate, Receiver, Reply};
pub(crate) use rng::TestRng;
pub(crate) use scene::{APP, Scene, id_of};
pub(crate) use temp::TempDir;
pub(crate) use tsp::Tsp;
use tsp_core::{Clock, Millis, SystemClock, Timestamp};

/// The longest that any single thing may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The time that the service goes by: the machine's, or that of a database on it.
#[expect(clippy::disallowed_methods, reason = "the service runs by it")]
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// A time of the API so many days from now.
pub(crate) fn in_days(days: i64) -> String {
    now().plus(Millis::from_days(days)).to_string()
}

/// Reads a time of the API.
#[track_caller]
pub(crate) fn time(text: &str) -> Timestamp {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Timestamp::from_ms(at.as_millisecond()),
        Err(e) => panic!("`{text}` is no time: {e}"),
    }
}

/// Waits for `future`, at most [`PATIENCE`]; `what` says in the failure what did not come.
#[track_caller]
pub(crate) fn in_time<W: std::fmt::Display, F: Future>(
    what: W,
    future: F,
) -> impl Future<Output = F::Output> + use<W, F> {
    let caller = std::panic::Location::caller();
    async move {
        let value = tokio::time::timeout(PATIENCE, future).await;
        value.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?} (waited for at {caller})"))
    }
}

/// Waits until the machine's clock has passed `moment`: a point in the story of the test, such as the
/// end of an outage that must outlast a due time. It is no substitute for a signal.
pub(crate) async fn past(moment: Timestamp) {
    let left = moment.since(now()).to_std();
    tokio::time::sleep_until(tokio::time::Instant::now() + left).await;
}
