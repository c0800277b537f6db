//! Configs whose receiver asked everybody to wait.

use std::collections::{BTreeSet, HashMap};

use tsp_core::{ConfigId, Timestamp};

/// Each config with the latest time it was asked to wait until.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    until: HashMap<ConfigId, Timestamp>,
    order: BTreeSet<(Timestamp, ConfigId)>,
}

impl Parked {
    pub(crate) fn park(&mut self, config: ConfigId, until: Timestamp) {
        let known = self.until.get(&config).copied();
        if known.is_none_or(|known| known < until) {
            self.order.remove(&(known.unwrap_or_default(), config));
            self.order.insert((until, config));
            self.until.insert(config, until);
        }
    }

    pub(crate) fn contains(&self, config: ConfigId) -> bool {
        self.until.contains_key(&config)
    }

    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Takes out one whose time is over.
    pub(crate) fn pop_over(&mut self, now: Timestamp) -> Option<ConfigId> {
        let (until, config) = self.order.first().copied().filter(|(until, _)| *until <= now)?;
        self.order.remove(&(until, config));
        self.until.remove(&config);
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_counts() {
        let at = Timestamp::from_ms;
        let (a, b) = (ConfigId::new(1), ConfigId::new(2));
        let mut parked = Parked::default();
        parked.park(a, at(30));
        parked.park(b, at(20));
        parked.park(a, at(10));
        parked.park(b, at(40));
        assert_eq!(parked.first(), Some(at(30)));
        assert_eq!(parked.pop_over(at(29)), None);
        assert_eq!(parked.pop_over(at(40)), Some(a));
        assert!(!parked.contains(a) && parked.contains(b));
        assert_eq!(parked.pop_over(at(40)), Some(b));
        assert_eq!((parked.pop_over(at(40)), parked.first()), (None, None));
    }
}
