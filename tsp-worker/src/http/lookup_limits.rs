//! How many look-ups may be in flight: of one zone of an app, of one app, of all. So the dead names of one zone
//! cannot use up what an app has, and those of one app not what the process has.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tsp_core::ids::AppId;

/// In one zone of one app: names that share their last two labels mostly share their name servers.
const ZONE_MAX: usize = 32;
const APP_MAX: usize = 64;
/// Of what all may have, one app and one zone get at most these shares.
const APPS_AT_LEAST: usize = 4;
const ZONES_AT_LEAST: usize = 8;
/// More at a time help nobody; those of a process that may hold few descriptors are fewer.
pub const LOOK_UPS_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct LookupLimits {
    zones: KeyedSemaphores<(AppId, Box<str>)>,
    apps: KeyedSemaphores<AppId>,
    all: Arc<Semaphore>,
}

/// The right to look a name up, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    _permits: [OwnedSemaphorePermit; 3],
}

impl LookupLimits {
    /// At most `all` at a time.
    pub(super) fn new(all: usize) -> Self {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            zones: KeyedSemaphores::new((all / ZONES_AT_LEAST).clamp(1, ZONE_MAX)),
            apps: KeyedSemaphores::new((all / APPS_AT_LEAST).clamp(1, APP_MAX)),
            all: Arc::new(Semaphore::new(all)),
        }
    }

    /// Waits for its turn, first in the zone: whoever waits there takes nothing from the others.
    pub(super) async fn enter(&self, app: AppId, name: &str) -> Pass {
        let zone = self.zones.get((app, zone(name).into()));
        Pass {
            _permits: [take(zone).await, take(self.apps.get(app)).await, take(Arc::clone(&self.all)).await],
        }
    }
}

async fn take(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.acquire_owned().await.expect("these semaphores are never closed")
}

/// The last two labels of a name.
fn zone(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rmatch_indices('.').nth(1).map_or(name, |(dot, _)| &name[dot + 1..])
}

/// A semaphore for each key in use.
#[derive(Debug)]
struct KeyedSemaphores<K> {
    permits: usize,
    in_use: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> KeyedSemaphores<K> {
    fn new(permits: usize) -> Self {
        Self { permits, in_use: Mutex::default() }
    }

    fn get(&self, key: K) -> Arc<Semaphore> {
        let mut in_use = self.in_use.lock();
        if let Some(semaphore) = in_use.get(&key).and_then(Weak::upgrade) {
            return semaphore;
        }
        // Each time the map would grow, so on the average once for each key that goes.
        if in_use.len() == in_use.capacity() {
            in_use.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.permits));
        in_use.insert(key, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const DEAD: AppId = AppId::new(1);
    const OTHER: AppId = AppId::new(2);

    fn enter(lookup_limits: &LookupLimits, app: AppId, name: &str) -> Option<Pass> {
        lookup_limits.enter(app, name).now_or_never()
    }

    #[test]
    fn a_zone_an_app_and_all_have_their_bounds() {
        let lookup_limits = LookupLimits::new(LOOK_UPS_MAX);
        let in_zone: Vec<_> =
            (0..ZONE_MAX).map(|n| enter(&lookup_limits, DEAD, &format!("h{n}.dead.test")).unwrap()).collect();
        assert!(enter(&lookup_limits, DEAD, "one-more.dead.test").is_none());
        let in_app: Vec<_> = (ZONE_MAX..APP_MAX)
            .map(|n| enter(&lookup_limits, DEAD, &format!("h.z{n}.test")).unwrap())
            .collect();
        assert!(enter(&lookup_limits, DEAD, "good.test").is_none());
        let elsewhere = enter(&lookup_limits, OTHER, "h0.dead.test");
        assert!(elsewhere.is_some(), "another app has its own");
        drop(in_zone);
        assert!(enter(&lookup_limits, DEAD, "one-more.dead.test").is_some());
        drop((in_app, elsewhere));

        let apps = (0..LOOK_UPS_MAX / ZONE_MAX).map(|app| AppId::new(100 + i64::try_from(app).unwrap()));
        let all: Vec<_> = apps
            .flat_map(|app| (0..ZONE_MAX).map(move |n| (app, n)))
            .map(|(app, n)| enter(&lookup_limits, app, &format!("h{n}.dead.test")).unwrap())
            .collect();
        assert!(enter(&lookup_limits, OTHER, "good.test").is_none());
        drop(all);
        assert!(enter(&lookup_limits, OTHER, "good.test").is_some());
    }

    #[test]
    fn where_few_are_allowed_one_app_does_not_get_them_all() {
        let lookup_limits = LookupLimits::new(40);
        let zones = (0..).map(|n| format!("h.z{n}.test"));
        let held: Vec<_> = zones.map_while(|name| enter(&lookup_limits, DEAD, &name)).collect();
        assert_eq!(held.len(), 10);
        assert!(enter(&lookup_limits, OTHER, "good.test").is_some());
        let names = (0..).map(|n| format!("h{n}.dead.test"));
        let held: Vec<_> = names.map_while(|name| enter(&lookup_limits, OTHER, &name)).collect();
        assert_eq!(held.len(), 5);
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let lookup_limits = LookupLimits::new(LOOK_UPS_MAX);
        for app in 0..10_000 {
            assert!(enter(&lookup_limits, AppId::new(app), "orders.test").is_some());
        }
        assert!(lookup_limits.apps.in_use.lock().len() < 100, "{}", lookup_limits.apps.in_use.lock().len());
    }

    #[test]
    fn a_zone_is_the_last_two_labels() {
        for (name, expected) in [
            ("a.b.dead.test", "dead.test"),
            ("dead.test.", "dead.test"),
            ("dead.test", "dead.test"),
            ("host", "host"),
        ] {
            assert_eq!(zone(name), expected);
        }
    }
}
