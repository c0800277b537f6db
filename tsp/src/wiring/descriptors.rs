//! File descriptors: how many the process may hold, and who may hold how many of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tsp_worker::http::LOOK_UPS_MAX;

use crate::settings::{Settings, StoreLocation};

/// Standard streams, the runtime, listeners, signals, the log, commands beside the server, and some to spare.
const OWN: usize = 64;
/// An SQLite connection: the database, its log and its index.
const PER_SQLITE_CONNECTION: usize = 3;
/// Connections to nsqd and nsqlookupd, and what is asked of them over HTTP.
const QUEUE: usize = 64;
/// Fewer would be no service.
const LEAST: usize = 16;
/// More connections to the API wait for nothing but memory.
const API_MAX: usize = 10_000;
/// A server that was slow to answer gets company.
const PER_LOOK_UP: usize = 2;
/// Idle connections to receivers beyond those that can be in use.
const IDLE_MAX: usize = 8_192;

/// Who may hold how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Of the process.
    pub(crate) limit: usize,
    /// Connections to the API.
    pub(crate) api: usize,
    /// Connections to receivers, idle ones included.
    pub(crate) receivers: usize,
    /// Look-ups of names at once.
    pub(crate) look_ups: usize,
    /// Callbacks at once: no more than can have a connection.
    pub(crate) callbacks: usize,
}

impl Descriptors {
    /// How `limit` is shared out. An eighth stays free: half of it for look-ups of names, the rest for second
    /// connections that are tried beside a first, and for what was not foreseen.
    pub(crate) fn of(limit: usize, settings: &Settings) -> Self {
        let own = OWN
            + match &settings.store.location {
                StoreLocation::Cluster(cluster) => cluster.connections_of_a_process().saturating_add(QUEUE),
                StoreLocation::File(_) | StoreLocation::Memory => {
                    PER_SQLITE_CONNECTION * (settings.store.readers.saturating_add(2))
                }
            };
        let rest = limit.saturating_sub(own);
        let spare = rest / 8;
        let rest = rest - spare;
        let api = (rest / 4).clamp(LEAST, API_MAX);
        let wanted = settings.worker.concurrency;
        let receivers = rest.saturating_sub(api).clamp(LEAST, wanted.saturating_add(IDLE_MAX));
        let look_ups = (spare / 2 / PER_LOOK_UP).clamp(LEAST, LOOK_UPS_MAX);
        Self { limit, api, receivers, look_ups, callbacks: wanted.min(receivers) }
    }

    /// Of this process, after its limit was raised as far as it may.
    pub(crate) fn raise(settings: &Settings) -> Self {
        let shares = Self::of(raise(), settings);
        metrics::describe_gauge!("tsp_descriptors_limit", "descriptors that the process may hold");
        metrics::gauge!("tsp_descriptors_limit")
            .set(f64::from(u32::try_from(shares.limit).unwrap_or(u32::MAX)));
        let Self { limit, api, receivers, callbacks, look_ups } = shares;
        tracing::info!(limit, api, receivers, look_ups, "descriptors");
        if callbacks < settings.worker.concurrency {
            tracing::warn!(
                limit,
                callbacks,
                "fewer callbacks run at once than `worker.concurrency` says: the process may hold too few \
                 descriptors; raise `LimitNOFILE` or `ulimit -n`"
            );
        }
        shares
    }
}

/// Up to the hard limit, which is what the operator has set; the soft one is for programs that cannot bear
/// large numbers. Returns what holds then.
fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => count(maximum),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the number of descriptors");
            count(current)
        }
    }
}

/// What a server that is started like this process may hold.
pub(crate) fn hard_limit() -> usize {
    count(getrlimit(Resource::Nofile).maximum)
}

/// No limit is a large one.
fn count(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn nobody_takes_what_others_need() {
        let settings = Settings::load(None, &Environment::default(), &[]).unwrap();
        for limit in [0, 64, 256, 1_024, 4_096, 65_536, 1 << 20, usize::MAX] {
            let shares = Descriptors::of(limit, &settings);
            let Descriptors { api, receivers, callbacks, .. } = shares;
            assert!(callbacks <= receivers && api >= LEAST && receivers >= LEAST, "{shares:?}");
            if limit >= 256 {
                assert!(api + receivers <= limit - limit / 8, "{shares:?}");
            }
        }
        let small = Descriptors::of(1_024, &settings);
        assert!(small.api > 150 && small.callbacks > 500, "{small:?}");
        let usual = Descriptors::of(65_536, &settings);
        assert_eq!((usual.api, usual.callbacks), (API_MAX, 1_024));
    }
}
