//! The clock of a harness: it stands still until it is moved, and may also go back.

use std::sync::atomic::{AtomicI64, Ordering};

use tsp_core::{Clock, Millis, Timestamp};

#[derive(Debug)]
pub(crate) struct SimClock(AtomicI64);

impl SimClock {
    pub(crate) fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.ms()))
    }

    /// Forward or back.
    pub(crate) fn step(&self, by: Millis) {
        self.0.fetch_add(by.ms(), Ordering::Relaxed);
    }

    /// Forward to `to`; never back.
    pub(crate) fn advance_to(&self, to: Timestamp) {
        self.0.fetch_max(to.ms(), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::Relaxed))
    }
}
