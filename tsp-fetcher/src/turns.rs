//! Whose rows go next: higher priorities first; within one, apps take turns, and within an app its
//! configs. So a flood of one app, or of many configs of one app, takes one turn among the apps.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tsp_core::config::TaskConfig;
use tsp_core::ids::IdMap;
use tsp_core::{AppId, ConfigId};

/// One turn in so many goes to a priority below the highest, so that none of them waits for ever.
const LOWER_EVERY: u64 = 16;

/// Where a config stands in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rank {
    /// 0..=4, higher first.
    pub(crate) priority: u8,
    pub(crate) app: AppId,
}

impl Rank {
    pub(crate) fn of(config: &TaskConfig) -> Self {
        Self { priority: config.spec.priority, app: config.app_id }
    }
}

/// Configs that have something to be done. Each step costs the logarithm of their number.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    by_priority: BTreeMap<Reverse<u8>, Ring>,
    positions: IdMap<ConfigId, TurnPosition>,
    /// Rises with each push: whoever has the lowest number waits the longest.
    numbers: u64,
    taken: u64,
}

#[derive(Debug, Clone, Copy)]
struct TurnPosition {
    rank: Rank,
    number: u64,
}

#[derive(Debug, Default)]
struct Ring {
    apps: BTreeMap<u64, AppId>,
    members: IdMap<AppId, Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// Its own in the ring.
    number: u64,
    configs: BTreeMap<u64, ConfigId>,
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(crate) fn contains(&self, config: ConfigId) -> bool {
        self.positions.contains_key(&config)
    }

    /// Puts a config at the end of its app's; one that stands at another rank leaves that.
    pub(crate) fn push(&mut self, config: ConfigId, rank: Rank) {
        match self.positions.get(&config) {
            Some(position) if position.rank == rank => return,
            Some(_) => self.remove(config),
            None => {}
        }
        self.numbers += 1;
        let number = self.numbers;
        self.positions.insert(config, TurnPosition { rank, number });
        let ring = self.by_priority.entry(Reverse(rank.priority)).or_default();
        let members = ring.members.entry(rank.app).or_default();
        if members.configs.is_empty() {
            members.number = number;
            ring.apps.insert(number, rank.app);
        }
        members.configs.insert(number, config);
    }

    /// The next one, which leaves the order.
    pub(crate) fn pop(&mut self) -> Option<(ConfigId, Rank)> {
        let priority = self.next_priority()?;
        self.taken += 1;
        let ring = self.by_priority.get(&priority)?;
        let (_, app) = ring.apps.first_key_value()?;
        let (_, config) = ring.members.get(app)?.configs.first_key_value()?;
        let config = *config;
        let rank = self.positions.get(&config)?.rank;
        self.leave(config, true);
        Some((config, rank))
    }

    pub(crate) fn remove(&mut self, config: ConfigId) {
        self.leave(config, false);
    }

    fn next_priority(&self) -> Option<Reverse<u8>> {
        let lower = self.by_priority.len().saturating_sub(1);
        if lower > 0 && self.taken % LOWER_EVERY == LOWER_EVERY - 1 {
            let turn = usize::try_from(self.taken / LOWER_EVERY).unwrap_or(0);
            return self.by_priority.keys().nth(1 + turn % lower).copied();
        }
        self.by_priority.keys().next().copied()
    }

    /// `served`: the app goes to the end of the ring.
    fn leave(&mut self, config: ConfigId, served: bool) {
        let Some(TurnPosition { rank, number }) = self.positions.remove(&config) else { return };
        let priority = Reverse(rank.priority);
        let Some(ring) = self.by_priority.get_mut(&priority) else { return };
        let Some(members) = ring.members.get_mut(&rank.app) else { return };
        members.configs.remove(&number);
        if members.configs.is_empty() {
            ring.apps.remove(&members.number);
            ring.members.remove(&rank.app);
        } else if served {
            self.numbers += 1;
            ring.apps.remove(&members.number);
            members.number = self.numbers;
            ring.apps.insert(members.number, rank.app);
        }
        if ring.apps.is_empty() {
            self.by_priority.remove(&priority);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rank(priority: u8, app: i64) -> Rank {
        Rank { priority, app: AppId::new(app) }
    }

    fn order(turns: &mut Turns) -> Vec<i64> {
        std::iter::from_fn(|| turns.pop()).map(|(config, _)| config.get()).collect()
    }

    fn push(turns: &mut Turns, configs: &[i64], rank: Rank) {
        for config in configs {
            turns.push(ConfigId::new(*config), rank);
        }
    }

    #[test]
    fn priorities_then_apps_then_configs() {
        let mut turns = Turns::default();
        push(&mut turns, &[11, 12, 13], rank(2, 1));
        push(&mut turns, &[21], rank(2, 2));
        push(&mut turns, &[31], rank(4, 3));
        assert_eq!(order(&mut turns), [31, 11, 21, 12, 13]);
        assert!(turns.is_empty());
    }

    #[test]
    fn who_was_served_goes_to_the_end() {
        let mut turns = Turns::default();
        push(&mut turns, &[11, 12], rank(2, 1));
        push(&mut turns, &[21], rank(2, 2));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let (config, rank) = turns.pop().unwrap();
            seen.push(config.get());
            turns.push(config, rank);
        }
        assert_eq!(seen, [11, 21, 12, 21, 11, 21]);
    }

    #[test]
    fn one_leaves_or_changes_its_rank_wherever_it_stands() {
        let mut turns = Turns::default();
        push(&mut turns, &[11, 12, 13], rank(2, 1));
        push(&mut turns, &[21], rank(2, 2));
        turns.remove(ConfigId::new(11));
        turns.remove(ConfigId::new(99));
        push(&mut turns, &[13], rank(3, 1));
        push(&mut turns, &[12], rank(2, 1));
        assert!(turns.contains(ConfigId::new(13)) && !turns.contains(ConfigId::new(11)));
        assert_eq!(order(&mut turns), [13, 12, 21]);
        assert!(turns.by_priority.is_empty() && turns.positions.is_empty());
    }

    #[test]
    fn lower_priorities_get_a_turn_now_and_then() {
        let mut turns = Turns::default();
        push(&mut turns, &[1], rank(4, 1));
        push(&mut turns, &[2], rank(2, 1));
        push(&mut turns, &[3], rank(0, 1));
        let mut served = BTreeMap::new();
        for _ in 0..320 {
            let (config, rank) = turns.pop().unwrap();
            *served.entry(config.get()).or_insert(0) += 1;
            turns.push(config, rank);
        }
        assert_eq!(served, BTreeMap::from([(1, 300), (2, 10), (3, 10)]));
    }
}
