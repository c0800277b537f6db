//! The earliest open due time of every config that has one.

use std::collections::{BTreeSet, HashMap, HashSet};

use tsp_core::{ConfigId, Timestamp};

/// Heads in order of time. A blocked config keeps its head and is left out of the order, so that work
/// that cannot be done does not wake anybody.
#[derive(Debug, Default)]
pub struct Heads {
    by_config: HashMap<ConfigId, Timestamp>,
    order: BTreeSet<(Timestamp, ConfigId)>,
    blocked: HashSet<ConfigId>,
}

impl Heads {
    /// There is something at `due_at`, perhaps not the earliest.
    pub fn lower(&mut self, config: ConfigId, due_at: Timestamp) {
        if self.by_config.get(&config).is_none_or(|known| due_at < *known) {
            self.set(config, Some(due_at));
        }
    }

    /// The earliest is this; `None`: nothing is open at 0.
    pub fn set(&mut self, config: ConfigId, head: Option<Timestamp>) {
        if let Some(old) = self.by_config.remove(&config) {
            self.order.remove(&(old, config));
        }
        if let Some(due_at) = head {
            self.by_config.insert(config, due_at);
            if !self.blocked.contains(&config) {
                self.order.insert((due_at, config));
            }
        }
    }

    pub fn block(&mut self, config: ConfigId) {
        if self.blocked.insert(config)
            && let Some(due_at) = self.by_config.get(&config)
        {
            self.order.remove(&(*due_at, config));
        }
    }

    pub fn unblock(&mut self, config: ConfigId) {
        if self.blocked.remove(&config)
            && let Some(due_at) = self.by_config.get(&config)
        {
            self.order.insert((*due_at, config));
        }
    }

    pub fn blocked(&self) -> Vec<ConfigId> {
        self.blocked.iter().copied().collect()
    }

    /// The earliest head of a config that is not blocked.
    pub fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// Configs that are not blocked with a head at `by` or before, earliest first.
    pub fn due_by(&self, by: Timestamp) -> Vec<ConfigId> {
        self.order.iter().take_while(|(due_at, _)| *due_at <= by).map(|(_, config)| *config).collect()
    }

    /// What the database says now: heads it does not name are gone.
    pub fn replace(&mut self, heads: impl IntoIterator<Item = (ConfigId, Timestamp)>) {
        self.by_config.clear();
        self.order.clear();
        for (config, due_at) in heads {
            self.set(config, Some(due_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn keeps_the_earliest_and_leaves_blocked_ones_out() {
        let (a, b) = (ConfigId::new(1), ConfigId::new(2));
        let mut heads = Heads::default();
        heads.lower(a, at(10));
        heads.lower(a, at(20));
        heads.lower(b, at(15));
        assert_eq!(heads.due_by(at(15)), [a, b]);
        heads.block(a);
        assert_eq!((heads.first(), heads.due_by(at(99))), (Some(at(15)), vec![b]));
        heads.lower(a, at(5));
        assert_eq!(heads.first(), Some(at(15)));
        heads.unblock(a);
        assert_eq!(heads.first(), Some(at(5)));
        heads.replace([(b, at(7))]);
        assert_eq!(heads.due_by(at(99)), [b]);
    }
}
