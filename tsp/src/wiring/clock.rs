//! Which clock a server runs on.

use std::sync::Arc;
use std::time::Duration;

use tsp_core::clock::ProcessMonotonicClock;
use tsp_core::{Clock, ClusterClock, Millis, SystemClock, Timestamp, VirtualClock};

#[derive(Debug, Clone)]
pub(crate) enum ServerClock {
    System(Arc<SystemClock>),
    /// Of the development server.
    Virtual(Arc<VirtualClock>),
    /// The meta database's, as this process follows it.
    Cluster(Arc<ClusterClock>),
}

impl ServerClock {
    pub(crate) fn system() -> Self {
        Self::System(Arc::new(machine()))
    }

    pub(crate) fn cluster() -> Self {
        Self::Cluster(Arc::new(ClusterClock::new(Arc::new(ProcessMonotonicClock::new()))))
    }

    pub(crate) fn virtual_() -> Self {
        Self::Virtual(Arc::new(VirtualClock::new(machine())))
    }

    pub(crate) fn get(&self) -> Arc<dyn Clock> {
        match self {
            Self::System(clock) => clock.clone(),
            Self::Virtual(clock) => clock.clone(),
            Self::Cluster(clock) => clock.clone(),
        }
    }
}

/// This machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that makes one")]
pub(super) fn machine() -> SystemClock {
    SystemClock::new()
}

/// What it says, for commands that run without a server.
pub(crate) fn machine_now() -> Timestamp {
    machine().now()
}

/// A length of the settings as the domain counts it.
pub(super) fn millis(length: Duration) -> Millis {
    Millis::from_ms(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}
