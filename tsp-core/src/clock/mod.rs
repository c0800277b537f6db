//! The clocks. Only the wiring makes one; everything else is handed `&dyn Clock` or a `now`.

mod cluster;
mod monotonic;
mod system;

use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::{Millis, Timestamp};

pub use cluster::{ClusterClock, Measurement, ROUND_TRIP_TRUSTED};
pub use monotonic::{ManualMonotonicClock, MonotonicClock, MonotonicInstant, ProcessMonotonicClock};
pub use system::SystemClock;

/// The service's time. It never goes back (DESIGN.md section 2, promise 2).
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// Real time plus an offset that only grows: the clock of `tsp dev`.
#[derive(Debug)]
pub struct VirtualClock {
    real: SystemClock,
    offset_ms: AtomicI64,
}

impl VirtualClock {
    pub fn new(real: SystemClock) -> Self {
        Self { real, offset_ms: AtomicI64::new(0) }
    }

    /// Moves the clock forward to `to`; a point that has passed changes nothing.
    pub fn advance_to(&self, to: Timestamp) {
        let offset = to.since(self.real.now()).ms();
        self.offset_ms.fetch_max(offset, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.real.now().plus(Millis::from_ms(self.offset_ms.load(Ordering::SeqCst)))
    }
}

/// A clock that stands still until it is told to move: tests and the simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self { now_ms: AtomicI64::new(start.ms()) }
    }

    pub fn advance(&self, by: Millis) {
        self.now_ms.fetch_add(by.ms().max(0), Ordering::SeqCst);
    }

    /// Moves forward to `to`; never back.
    pub fn advance_to(&self, to: Timestamp) {
        self.now_ms.fetch_max(to.ms(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clock that is tested stands on it")]
    fn a_virtual_clock_jumps_forward_and_never_back() {
        let clock = VirtualClock::new(SystemClock::new());
        let start = clock.now();
        let ahead = start.plus(Millis::from_days(3));
        clock.advance_to(ahead);
        assert!(clock.now() >= ahead);
        clock.advance_to(start);
        assert!(clock.now() >= ahead);
    }
}
