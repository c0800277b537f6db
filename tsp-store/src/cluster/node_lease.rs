//! The lease of this process, as its roles see it.

use std::sync::atomic::{AtomicI64, Ordering};

use tsp_core::Timestamp;
use tsp_core::work::SendLease;

/// The lease of this process, as its roles see it. By the service's clock.
#[derive(Debug)]
pub struct NodeLease {
    until_ms: AtomicI64,
}

impl NodeLease {
    /// The lease of an embedded process: its lock file is the lease.
    pub const fn for_ever() -> Self {
        Self { until_ms: AtomicI64::new(i64::MAX) }
    }

    pub const fn until(end: Timestamp) -> Self {
        Self { until_ms: AtomicI64::new(end.ms()) }
    }

    /// It was renewed, counted from before the renewal was sent. A late answer never shortens it.
    pub fn extend(&self, until: Timestamp) {
        self.until_ms.fetch_max(until.ms(), Ordering::AcqRel);
    }

    /// It has ended, whatever was renewed.
    pub fn end(&self) {
        self.until_ms.store(i64::MIN, Ordering::Release);
    }

    pub fn end_at(&self) -> Timestamp {
        Timestamp::from_ms(self.until_ms.load(Ordering::Acquire))
    }

    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.end_at()
    }
}

impl SendLease for NodeLease {
    fn may_send(&self, now: Timestamp) -> bool {
        self.holds(now)
    }
}
