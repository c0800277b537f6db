//! Whose rows go next: higher priorities first; within one, apps take turns, and within an app its
//! configs. So a flood of one app, or of many configs of one app, takes one turn among the apps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use tsp_core::{AppId, ConfigId};

/// Where a config stands in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rank {
    /// 0..=4, higher first.
    pub priority: u8,
    pub app: AppId,
}

/// Configs with something to publish.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    by_priority: BTreeMap<Reverse<u8>, Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    apps: VecDeque<AppId>,
    configs: HashMap<AppId, VecDeque<ConfigId>>,
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_priority.is_empty()
    }

    /// Puts a config that is not in the order at the end of its app's.
    pub(crate) fn push(&mut self, config: ConfigId, rank: Rank) {
        let ring = self.by_priority.entry(Reverse(rank.priority)).or_default();
        let configs = ring.configs.entry(rank.app).or_default();
        if configs.is_empty() {
            ring.apps.push_back(rank.app);
        }
        configs.push_back(config);
    }

    pub(crate) fn pop(&mut self) -> Option<ConfigId> {
        let mut entry = self.by_priority.first_entry()?;
        let ring = entry.get_mut();
        let app = ring.apps.pop_front()?;
        let configs = ring.configs.get_mut(&app)?;
        let config = configs.pop_front();
        if configs.is_empty() {
            ring.configs.remove(&app);
        } else {
            ring.apps.push_back(app);
        }
        if ring.apps.is_empty() {
            entry.remove();
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(turns: &mut Turns) -> Vec<i64> {
        std::iter::from_fn(|| turns.pop()).map(ConfigId::get).collect()
    }

    #[test]
    fn priorities_then_apps_then_configs() {
        let mut turns = Turns::default();
        let rank = |priority, app| Rank { priority, app: AppId::new(app) };
        for config in [11, 12, 13] {
            turns.push(ConfigId::new(config), rank(2, 1));
        }
        turns.push(ConfigId::new(21), rank(2, 2));
        turns.push(ConfigId::new(31), rank(4, 3));
        assert_eq!(order(&mut turns), [31, 11, 21, 12, 13]);
        assert!(turns.is_empty());
    }
}
