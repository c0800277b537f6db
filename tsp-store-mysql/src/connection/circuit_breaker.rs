//! Whether a database can be reached, so that calls for one that is unavailable end at once and not each
//! after its own wait.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;
use tsp_store::error::{Cause, Result};

/// While a database is unavailable one call in each of these is a probe: it is let through.
const PROBE_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct CircuitBreaker {
    name: String,
    closed: AtomicBool,
    /// A table was not there.
    moved: AtomicBool,
    state: Mutex<State>,
    failures: Counter,
}

#[derive(Debug, Default)]
struct State {
    next_probe: Option<Instant>,
    why: String,
    /// Since when it is unavailable.
    since: Option<Instant>,
    /// When a connection was last found broken: those that idled since may be, too.
    broke: Option<Instant>,
}

/// How a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Open,
    /// To see whether the database is back; it should not take long to see that it is not.
    Probe,
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl CircuitBreaker {
    pub(crate) fn new(name: &str) -> Self {
        let failures = counter!("tsp_db_unreachable_total", "source" => name.to_owned());
        Self {
            name: name.to_owned(),
            closed: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            state: Mutex::default(),
            failures,
        }
    }

    /// # Errors
    /// [`tsp_store::StoreError::Unavailable`] while the database is unavailable, except for the probe.
    pub(crate) fn enter(&self, now: Instant) -> Result<Entry> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(Entry::Open);
        }
        let mut state = self.state.lock();
        if state.next_probe.is_some_and(|at| now < at) {
            return Err(Cause::Away.because(state.why.clone()));
        }
        state.next_probe = Some(now + PROBE_EVERY);
        Ok(Entry::Probe)
    }

    /// The database answered.
    pub(crate) fn answered(&self) {
        if self.closed.load(Ordering::Acquire) {
            self.open(Instant::now());
        }
    }

    fn open(&self, now: Instant) {
        let since = {
            let mut state = self.state.lock();
            self.closed.store(false, Ordering::Release);
            state.since.take()
        };
        if let Some(since) = since {
            let ms = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
            tracing::info!(database = self.name, ms, "a database is back");
        }
    }

    /// It could not be reached, or did not answer in time.
    pub(crate) fn unreachable(&self, why: String, now: Instant) {
        self.failures.increment(1);
        let mut state = self.state.lock();
        if state.since.is_none() {
            tracing::warn!(database = self.name, why, "a database is unavailable");
            state.since = Some(now);
        }
        state.next_probe = Some(now + PROBE_EVERY);
        state.why = why;
        self.closed.store(true, Ordering::Release);
    }

    /// A table was not there: its shard is on another data source now, or on the way.
    pub(crate) fn found_moved(&self) {
        self.moved.store(true, Ordering::Release);
    }

    /// Whether that was so since this was last asked.
    pub(crate) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn found_broken(&self, now: Instant) {
        self.state.lock().broke = Some(now);
    }

    /// Whether a connection that was idle for so long has seen one of its kind break.
    pub(crate) fn suspect(&self, idle_for: Duration, now: Instant) -> bool {
        self.state.lock().broke.is_some_and(|at| now.duration_since(at) <= idle_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_a_second_looks_whether_it_is_back() {
        let breaker = CircuitBreaker::new("test");
        let now = Instant::now();
        assert_eq!(breaker.enter(now).unwrap(), Entry::Open);
        breaker.unreachable("refused".to_owned(), now);
        assert!(breaker.enter(now).unwrap_err().to_string().contains("refused"));
        let later = now + PROBE_EVERY;
        assert_eq!(breaker.enter(later).unwrap(), Entry::Probe);
        assert!(breaker.enter(later).is_err(), "one at a time");
        breaker.answered();
        assert_eq!(breaker.enter(later).unwrap(), Entry::Open);
        assert_eq!(breaker.enter(later).unwrap(), Entry::Open);
    }

    #[test]
    fn what_idled_since_a_break_is_suspect() {
        let breaker = CircuitBreaker::new("test");
        let now = Instant::now();
        assert!(!breaker.suspect(Duration::from_secs(9), now));
        breaker.found_broken(now);
        let later = now + Duration::from_secs(2);
        assert!(breaker.suspect(Duration::from_secs(3), later));
        assert!(!breaker.suspect(Duration::from_secs(1), later), "it was used since");
    }
}
