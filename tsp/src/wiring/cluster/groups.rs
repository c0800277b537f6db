//! The shard groups that a process serves, and those that there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tsp_core::Name;
use tsp_fetcher::shard_groups::{GroupSource, ServingScope};
use tsp_store::ConfigCache;

use crate::settings::FetcherSettings;

pub(super) fn serves(settings: &FetcherSettings) -> ServingScope {
    if settings.groups.iter().any(|group| group == "*") {
        return ServingScope::All;
    }
    ServingScope::Only(settings.groups.iter().filter_map(|group| Name::group(group).ok()).collect())
}

/// The groups of all configs, computed again only when a config has changed.
pub(super) fn groups_of(config_cache: Arc<ConfigCache>) -> GroupSource {
    let known = Mutex::new((i64::MIN, Vec::new()));
    Arc::new(move || {
        let mut known = known.lock();
        let seq = config_cache.seq();
        if known.0 != seq {
            let groups = config_cache.all_configs().into_iter().map(|config| config.spec.group.clone());
            let groups: BTreeSet<Name> = groups.chain([Name::default_name()]).collect();
            *known = (seq, groups.into_iter().collect());
        }
        known.1.clone()
    })
}
