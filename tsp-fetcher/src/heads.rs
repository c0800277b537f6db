//! The earliest open due time of every config that has one.

use std::collections::{BTreeSet, HashMap, HashSet};

use tsp_core::{ConfigId, Timestamp};

/// Heads in order of time. A blocked config keeps its head and is left out of the order, so that work
/// that cannot be done does not wake anybody.
#[derive(Debug, Default)]
pub struct Heads {
    by_config: HashMap<ConfigId, Known>,
    order: BTreeSet<(Timestamp, ConfigId)>,
    blocked: HashSet<ConfigId>,
    /// Rises with each [`Heads::replace`].
    round: u64,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    due_at: Timestamp,
    /// The last replacement that named it.
    round: u64,
}

impl Heads {
    /// There is something at `due_at`, perhaps not the earliest.
    pub fn lower(&mut self, config: ConfigId, due_at: Timestamp) {
        if self.by_config.get(&config).is_none_or(|known| due_at < known.due_at) {
            self.set(config, Some(due_at));
        }
    }

    /// The earliest is this; `None`: nothing is open at 0.
    pub fn set(&mut self, config: ConfigId, head: Option<Timestamp>) {
        if let Some(old) = self.by_config.remove(&config) {
            self.order.remove(&(old.due_at, config));
        }
        if let Some(due_at) = head {
            self.by_config.insert(config, Known { due_at, round: self.round });
            if !self.blocked.contains(&config) {
                self.order.insert((due_at, config));
            }
        }
    }

    pub fn block(&mut self, config: ConfigId) {
        if self.blocked.insert(config)
            && let Some(known) = self.by_config.get(&config)
        {
            self.order.remove(&(known.due_at, config));
        }
    }

    /// Says whether it was blocked.
    pub fn unblock(&mut self, config: ConfigId) -> bool {
        let was_blocked = self.blocked.remove(&config);
        if was_blocked && let Some(known) = self.by_config.get(&config) {
            self.order.insert((known.due_at, config));
        }
        was_blocked
    }

    pub fn blocked(&self) -> Vec<ConfigId> {
        self.blocked.iter().copied().collect()
    }

    /// The earliest head of a config that is not blocked.
    pub fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// Configs that are not blocked with a head at `by` or before, earliest first.
    pub fn due_by(&self, by: Timestamp) -> impl Iterator<Item = ConfigId> + '_ {
        self.order.iter().take_while(move |(due_at, _)| *due_at <= by).map(|(_, config)| *config)
    }

    /// What the database says now: heads it does not name are gone. Costs little where nothing is new.
    pub fn replace(&mut self, heads: impl IntoIterator<Item = (ConfigId, Timestamp)>) {
        self.round += 1;
        for (config, due_at) in heads {
            match self.by_config.get_mut(&config) {
                Some(known) if known.due_at == due_at => known.round = self.round,
                _ => self.set(config, Some(due_at)),
            }
        }
        let (round, order) = (self.round, &mut self.order);
        self.by_config.retain(|config, known| {
            let named = known.round == round;
            if !named {
                order.remove(&(known.due_at, *config));
            }
            named
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn due(heads: &Heads, by: i64) -> Vec<ConfigId> {
        heads.due_by(at(by)).collect()
    }

    #[test]
    fn keeps_the_earliest_and_leaves_blocked_ones_out() {
        let (a, b) = (ConfigId::new(1), ConfigId::new(2));
        let mut heads = Heads::default();
        heads.lower(a, at(10));
        heads.lower(a, at(20));
        heads.lower(b, at(15));
        assert_eq!(due(&heads, 15), [a, b]);
        heads.block(a);
        assert_eq!((heads.first(), due(&heads, 99)), (Some(at(15)), vec![b]));
        heads.lower(a, at(5));
        assert_eq!(heads.first(), Some(at(15)));
        heads.unblock(a);
        assert_eq!(heads.first(), Some(at(5)));
    }

    #[test]
    fn a_replacement_keeps_moves_adds_and_drops() {
        let [kept, moved, gone, new, blocked] = [1, 2, 3, 4, 5].map(ConfigId::new);
        let mut heads = Heads::default();
        heads.block(blocked);
        for config in [kept, moved, gone, blocked] {
            heads.set(config, Some(at(10)));
        }
        for _ in 0..2 {
            heads.replace([(kept, at(10)), (moved, at(7)), (new, at(8)), (blocked, at(1))]);
            assert_eq!(due(&heads, 99), [moved, new, kept]);
        }
        heads.unblock(blocked);
        assert_eq!(heads.first(), Some(at(1)), "a blocked one keeps its head");
        heads.replace([]);
        assert_eq!(heads.first(), None);
    }
}
