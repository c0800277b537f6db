//! The shard groups that a process serves, and those that there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tsp_core::Name;
use tsp_fetcher::pairs::{GroupSource, Serves};
use tsp_store::ConfigBook;

use crate::settings::FetcherSettings;

pub(super) fn serves(settings: &FetcherSettings) -> Serves {
    if settings.groups.iter().any(|group| group == "*") {
        return Serves::All;
    }
    Serves::Only(settings.groups.iter().filter_map(|group| Name::group(group).ok()).collect())
}

/// The groups of all configs, computed again only when a config has changed.
pub(super) fn groups_of(book: Arc<ConfigBook>) -> GroupSource {
    let known = Mutex::new((i64::MIN, Vec::new()));
    Arc::new(move || {
        let mut known = known.lock();
        let seq = book.seq();
        if known.0 != seq {
            let groups = book.all_configs().into_iter().map(|config| config.spec.group.clone());
            let groups: BTreeSet<Name> = groups.chain([Name::lane()]).collect();
            *known = (seq, groups.into_iter().collect());
        }
        known.1.clone()
    })
}
