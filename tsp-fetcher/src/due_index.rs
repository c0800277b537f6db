//! The earliest open due time of every config that has one.

use std::collections::BTreeSet;

use tsp_core::ids::IdMap;
use tsp_core::{ConfigId, Timestamp};

use crate::turns::{Rank, Turns};

/// Configs in order of time, and those whose time has come in fair order (see [`Turns`]). One that has left keeps
/// its time and is in neither, so that work that cannot be done does not wake anybody.
#[derive(Debug, Default)]
pub(crate) struct DueIndex {
    by_config: IdMap<ConfigId, DueEntry>,
    /// Not among `due`.
    order: BTreeSet<(Timestamp, ConfigId)>,
    due: Turns,
    /// Up to when configs have joined `due`.
    ripe: Option<Timestamp>,
    /// Rises with each [`DueIndex::replace`].
    round: u64,
}

#[derive(Debug, Clone, Copy)]
struct DueEntry {
    due_at: Timestamp,
    /// The last replacement that named it.
    round: u64,
}

impl DueIndex {
    /// There is something at `due_at`, perhaps not the earliest.
    pub(crate) fn lower(&mut self, config: ConfigId, due_at: Timestamp) {
        if self.by_config.get(&config).is_none_or(|known| due_at < known.due_at) {
            self.set(config, Some(due_at));
        }
    }

    /// The earliest is this; `None`: nothing is scheduled. Whose turn was near keeps its position, and who
    /// had left is back.
    pub(crate) fn set(&mut self, config: ConfigId, earliest: Option<Timestamp>) {
        if let Some(old) = self.by_config.remove(&config) {
            self.order.remove(&(old.due_at, config));
        }
        let Some(due_at) = earliest else { return self.due.remove(config) };
        self.by_config.insert(config, DueEntry { due_at, round: self.round });
        if self.due.contains(config) {
            if self.ripe.is_some_and(|ripe| due_at <= ripe) {
                return;
            }
            self.due.remove(config);
        }
        self.order.insert((due_at, config));
    }

    /// Until it enters again.
    pub(crate) fn leave(&mut self, config: ConfigId) {
        self.due.remove(config);
        if let Some(known) = self.by_config.get(&config) {
            self.order.remove(&(known.due_at, config));
        }
    }

    /// It has left, or it has not: then it keeps its position.
    pub(crate) fn enter(&mut self, config: ConfigId) {
        if let Some(known) = self.by_config.get(&config)
            && !self.due.contains(config)
        {
            self.order.insert((known.due_at, config));
        }
    }

    /// Whether anything of it is scheduled.
    pub(crate) fn knows(&self, config: ConfigId) -> bool {
        self.by_config.contains_key(&config)
    }

    pub(crate) fn configs(&self) -> impl Iterator<Item = ConfigId> + '_ {
        self.by_config.keys().copied()
    }

    /// The earliest time of a config that has not left; of those whose turn it is, some time that has come.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        if !self.due.is_empty() {
            return self.ripe;
        }
        self.order.first().map(|(due_at, _)| *due_at)
    }

    /// Those at `by` or before join those whose turn it is, the earliest first.
    pub(crate) fn ripen(&mut self, by: Timestamp, rank: impl Fn(ConfigId) -> Rank) {
        self.ripe = self.ripe.max(Some(by));
        while let Some((due_at, config)) = self.order.first().copied().filter(|(due_at, _)| *due_at <= by) {
            self.order.remove(&(due_at, config));
            self.due.push(config, rank(config));
        }
    }

    /// Takes out the config whose turn it is. What becomes of it is decided by [`DueIndex::wait_again`],
    /// [`DueIndex::set`] or [`DueIndex::leave`].
    pub(crate) fn next_due(&mut self) -> Option<(ConfigId, Rank)> {
        self.due.pop()
    }

    /// Its turn is over, and it takes another one after the others.
    pub(crate) fn wait_again(&mut self, config: ConfigId, rank: Rank) {
        if self.by_config.contains_key(&config) {
            self.due.push(config, rank);
        }
    }

    /// It has another rank now.
    pub(crate) fn rank(&mut self, config: ConfigId, rank: Rank) {
        if self.due.contains(config) {
            self.due.push(config, rank);
        }
    }

    /// What the database says now: configs it does not name are gone. Costs little where nothing is new. Returns
    /// those that were set.
    pub(crate) fn replace(
        &mut self,
        earliest: impl IntoIterator<Item = (ConfigId, Timestamp)>,
    ) -> Vec<ConfigId> {
        self.round += 1;
        let mut set = Vec::new();
        for (config, due_at) in earliest {
            match self.by_config.get_mut(&config) {
                Some(known) if known.due_at == due_at => known.round = self.round,
                _ => {
                    self.set(config, Some(due_at));
                    set.push(config);
                }
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
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    /// Those that are due by then, in their order, and leaves them so.
    fn due(index: &mut DueIndex, by: i64) -> Vec<ConfigId> {
        index.ripen(at(by), |_| Rank::default());
        let due: Vec<_> = std::iter::from_fn(|| index.next_due()).collect();
        for (config, rank) in &due {
            index.wait_again(*config, *rank);
        }
        due.into_iter().map(|(config, _)| config).collect()
    }

    #[test]
    fn keeps_the_earliest_and_passes_over_those_that_have_left() {
        let (a, b) = (ConfigId::new(1), ConfigId::new(2));
        let mut index = DueIndex::default();
        index.lower(a, at(10));
        index.lower(a, at(20));
        index.lower(b, at(15));
        assert_eq!(index.first(), Some(at(10)));
        index.leave(a);
        assert_eq!(index.first(), Some(at(15)));
        index.lower(a, at(5));
        index.leave(a);
        assert_eq!(index.first(), Some(at(15)));
        for _ in 0..2 {
            index.enter(a);
            assert_eq!(index.first(), Some(at(5)));
        }
        assert_eq!(due(&mut index, 15), [a, b]);
        index.leave(a);
        assert_eq!(due(&mut index, 15), [b]);
        index.enter(a);
        assert_eq!(due(&mut index, 15), [b, a]);
        index.enter(b);
        assert_eq!(due(&mut index, 15), [b, a], "it was there");
    }

    #[test]
    fn news_of_what_is_due_does_not_cost_its_turn() {
        let [a, b] = [1, 2].map(ConfigId::new);
        let mut index = DueIndex::default();
        index.set(a, Some(at(10)));
        index.set(b, Some(at(11)));
        assert_eq!(due(&mut index, 20), [a, b]);
        index.lower(a, at(5));
        index.set(a, Some(at(20)));
        assert_eq!(due(&mut index, 20), [a, b], "though its time was moved");
        index.set(a, Some(at(21)));
        assert_eq!(due(&mut index, 20), [b], "beyond what is due it waits for its time");
        assert_eq!(due(&mut index, 21), [b, a]);
        index.set(b, None);
        index.set(a, None);
        assert_eq!(index.first(), None);
    }

    #[test]
    fn a_replacement_keeps_moves_adds_and_drops() {
        let [kept, moved, gone, new, held] = [1, 2, 3, 4, 5].map(ConfigId::new);
        for ripe in [false, true] {
            let mut index = DueIndex::default();
            for config in [kept, moved, gone, held] {
                index.set(config, Some(at(10)));
            }
            index.leave(held);
            if ripe {
                due(&mut index, 10);
            }
            let set = index.replace([(kept, at(10)), (moved, at(70)), (new, at(8)), (held, at(10))]);
            assert_eq!(set, [moved, new]);
            let expected = if ripe { [kept, new, moved] } else { [new, kept, moved] };
            assert_eq!(due(&mut index, 99), expected);
            index.enter(held);
            assert_eq!(due(&mut index, 99).last(), Some(&held), "who has left keeps its time");
            index.replace([]);
            assert_eq!(index.first(), None);
        }
    }
}
