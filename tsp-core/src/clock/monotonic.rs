//! Monotonic time: what leases and failure detectors go by, whatever happens to the machine's clock.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::Millis;

/// A point of one process's monotonic time, in milliseconds since that process's source was made. Only the
/// difference of two points of one source means anything.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct MonotonicInstant(i64);

impl MonotonicInstant {
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    pub const fn plus(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.ms()))
    }

    /// The time from `earlier` to `self`; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Millis {
        Millis::from_ms(self.0.saturating_sub(earlier.0))
    }
}

/// A source of monotonic time. Only the wiring makes one.
pub trait MonotonicClock: Send + Sync + fmt::Debug {
    fn instant(&self) -> MonotonicInstant;
}

/// The time that has passed since the process made it.
#[derive(Debug)]
pub struct ProcessMonotonicClock {
    start: std::time::Instant,
}

impl ProcessMonotonicClock {
    #[expect(clippy::disallowed_methods, reason = "the one source of monotonic time")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for ProcessMonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl MonotonicClock for ProcessMonotonicClock {
    fn instant(&self) -> MonotonicInstant {
        MonotonicInstant::from_ms(Millis::from(self.start.elapsed()).ms())
    }
}

/// Stands still until it is told to move: tests and the simulation.
#[derive(Debug, Default)]
pub struct ManualMonotonicClock {
    now_ms: AtomicI64,
}

impl ManualMonotonicClock {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn advance(&self, by: Millis) {
        self.now_ms.fetch_add(by.ms().max(0), Ordering::SeqCst);
    }
}

impl MonotonicClock for ManualMonotonicClock {
    fn instant(&self) -> MonotonicInstant {
        MonotonicInstant::from_ms(self.now_ms.load(Ordering::SeqCst))
    }
}
