//! The earliest open due time of every config that has one.

use std::collections::{BTreeSet, HashMap, HashSet};

use tsp_core::{ConfigId, Timestamp};

use crate::turns::{Rank, Turns};

/// Heads in order of time, and those whose time has come in fair order (see [`Turns`]). A blocked config keeps
/// its head and is left out of both, so that work that cannot be done does not wake anybody.
#[derive(Debug, Default)]
pub struct Heads {
    by_config: HashMap<ConfigId, Known>,
    /// Neither blocked nor among `due`.
    order: BTreeSet<(Timestamp, ConfigId)>,
    due: Turns,
    /// Up to when heads have joined `due`.
    ripe: Option<Timestamp>,
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

    /// The earliest is this; `None`: nothing is open at 0. Whose turn was near keeps its place.
    pub fn set(&mut self, config: ConfigId, head: Option<Timestamp>) {
        if let Some(old) = self.by_config.remove(&config) {
            self.order.remove(&(old.due_at, config));
        }
        let Some(due_at) = head else { return self.due.remove(config) };
        self.by_config.insert(config, Known { due_at, round: self.round });
        if self.blocked.contains(&config) {
            return;
        }
        if self.due.contains(config) {
            if self.ripe.is_some_and(|ripe| due_at <= ripe) {
                return;
            }
            self.due.remove(config);
        }
        self.order.insert((due_at, config));
    }

    pub fn block(&mut self, config: ConfigId) {
        self.due.remove(config);
        if self.blocked.insert(config)
            && let Some(known) = self.by_config.get(&config)
        {
            self.order.remove(&(known.due_at, config));
        }
    }

    /// Whether anything of it is open at 0.
    pub fn knows(&self, config: ConfigId) -> bool {
        self.by_config.contains_key(&config)
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

    /// The earliest head of a config that is not blocked; of those whose turn it is, some time that has come.
    pub fn first(&self) -> Option<Timestamp> {
        if !self.due.is_empty() {
            return self.ripe;
        }
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// Heads at `by` or before join those whose turn it is, the earliest first.
    pub fn ripen(&mut self, by: Timestamp, rank: impl Fn(ConfigId) -> Rank) {
        self.ripe = self.ripe.max(Some(by));
        while let Some((due_at, config)) = self.order.first().copied().filter(|(due_at, _)| *due_at <= by) {
            self.order.remove(&(due_at, config));
            self.due.push(config, rank(config));
        }
    }

    /// Takes out the config whose turn it is. What becomes of it is to be said by [`Heads::wait_again`], or by
    /// [`Heads::set`] or [`Heads::block`].
    pub fn next_due(&mut self) -> Option<(ConfigId, Rank)> {
        self.due.pop()
    }

    /// Its turn is over, and it takes another one after the others.
    pub fn wait_again(&mut self, config: ConfigId, rank: Rank) {
        if self.by_config.contains_key(&config) && !self.blocked.contains(&config) {
            self.due.push(config, rank);
        }
    }

    /// It has another rank now.
    pub fn rank(&mut self, config: ConfigId, rank: Rank) {
        if self.due.contains(config) {
            self.due.push(config, rank);
        }
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
        let (round, order, due) = (self.round, &mut self.order, &mut self.due);
        self.by_config.retain(|config, known| {
            let named = known.round == round;
            if !named {
                order.remove(&(known.due_at, *config));
                due.remove(*config);
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

    /// Those that are due by then, in their order, and leaves them so.
    fn due(heads: &mut Heads, by: i64) -> Vec<ConfigId> {
        heads.ripen(at(by), |_| Rank::default());
        let due: Vec<_> = std::iter::from_fn(|| heads.next_due()).collect();
        for (config, rank) in &due {
            heads.wait_again(*config, *rank);
        }
        due.into_iter().map(|(config, _)| config).collect()
    }

    #[test]
    fn keeps_the_earliest_and_leaves_blocked_ones_out() {
        let (a, b) = (ConfigId::new(1), ConfigId::new(2));
        let mut heads = Heads::default();
        heads.lower(a, at(10));
        heads.lower(a, at(20));
        heads.lower(b, at(15));
        assert_eq!(heads.first(), Some(at(10)));
        heads.block(a);
        assert_eq!(heads.first(), Some(at(15)));
        heads.lower(a, at(5));
        assert_eq!(heads.first(), Some(at(15)));
        heads.unblock(a);
        assert_eq!(heads.first(), Some(at(5)));
        assert_eq!(due(&mut heads, 15), [a, b]);
        heads.block(a);
        assert_eq!(due(&mut heads, 15), [b]);
        heads.unblock(a);
        assert_eq!(due(&mut heads, 15), [b, a]);
    }

    #[test]
    fn news_of_what_is_due_does_not_cost_its_turn() {
        let [a, b] = [1, 2].map(ConfigId::new);
        let mut heads = Heads::default();
        heads.set(a, Some(at(10)));
        heads.set(b, Some(at(11)));
        assert_eq!(due(&mut heads, 20), [a, b]);
        heads.lower(a, at(5));
        heads.set(a, Some(at(20)));
        assert_eq!(due(&mut heads, 20), [a, b], "though its head was moved");
        heads.set(a, Some(at(21)));
        assert_eq!(due(&mut heads, 20), [b], "beyond what is due it waits for its time");
        assert_eq!(due(&mut heads, 21), [b, a]);
        heads.set(b, None);
        heads.set(a, None);
        assert_eq!(heads.first(), None);
    }

    #[test]
    fn a_replacement_keeps_moves_adds_and_drops() {
        let [kept, moved, gone, new, blocked] = [1, 2, 3, 4, 5].map(ConfigId::new);
        for ripe in [false, true] {
            let mut heads = Heads::default();
            heads.block(blocked);
            for config in [kept, moved, gone, blocked] {
                heads.set(config, Some(at(10)));
            }
            if ripe {
                due(&mut heads, 10);
            }
            heads.replace([(kept, at(10)), (moved, at(70)), (new, at(8)), (blocked, at(1))]);
            let expected = if ripe { [kept, new, moved] } else { [new, kept, moved] };
            assert_eq!(due(&mut heads, 99), expected);
            heads.unblock(blocked);
            assert_eq!(due(&mut heads, 99).last(), Some(&blocked), "a blocked one keeps its head");
            heads.replace([]);
            assert_eq!(heads.first(), None);
        }
    }
}
