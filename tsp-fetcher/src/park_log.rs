//! Configs whose receiver asked everybody to wait, and what is to be saved of them.

use std::collections::{BTreeMap, BTreeSet};

use metrics::{Gauge, gauge};
use tsp_core::ids::IdMap;
use tsp_core::{ConfigId, Millis, Timestamp};
use tsp_store::parks::{Park, ParkEvent};

/// What is known of a config is written at most this often.
const SAVE_EVERY: Millis = Millis::from_secs(1);

/// Each config with the latest time it was asked to wait until. When it is over [`crate::holds::Holds`] says.
#[derive(Debug, Default)]
pub(crate) struct ParkLog {
    waits: IdMap<ConfigId, Wait>,
    /// What is to be saved, and when.
    saves: BTreeSet<(Timestamp, ConfigId)>,
    /// Waits that were ended here and are to be ended in the store, too.
    ended: BTreeMap<ConfigId, End>,
    /// Whether what former owners have kept was read.
    is_read: bool,
    count: Count,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    /// The longest, and the last that was asked for: it may outlive an end of the longest.
    park: Park,
    last: Park,
    /// The store has it, or had it.
    stored: bool,
    saved_at: Option<Timestamp>,
    /// Its position in `saves`.
    save_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    at: Timestamp,
    save_at: Timestamp,
}

/// Parked configs of the process: each counts at the fetcher of each of its shards.
#[derive(Debug)]
struct Count {
    gauge: Gauge,
    own: u32,
}

impl Default for Count {
    fn default() -> Self {
        Self { gauge: gauge!("tsp_configs_parked"), own: 0 }
    }
}

impl Count {
    fn set(&mut self, own: usize) {
        let own = u32::try_from(own).unwrap_or(u32::MAX);
        self.gauge.increment(f64::from(own) - f64::from(self.own));
        self.own = own;
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl ParkLog {
    /// To be saved, too, unless a longer wait is known.
    pub(crate) fn asked(&mut self, park: Park, now: Timestamp) {
        if self.put(park, false) {
            self.save_soon(park.config, now);
        }
    }

    pub(crate) fn contains(&self, config: ConfigId) -> bool {
        self.waits.contains_key(&config)
    }

    pub(crate) fn until(&self, config: ConfigId) -> Option<Timestamp> {
        self.waits.get(&config).map(|wait| wait.park.until)
    }

    /// When something is to be saved.
    pub(crate) fn first_save(&self) -> Option<Timestamp> {
        let save = self.saves.first().map(|(at, _)| *at);
        let end = self.ended.values().map(|end| end.save_at).min();
        save.into_iter().chain(end).min()
    }

    /// Whether the store does not have yet what is known of it here.
    pub(crate) fn is_unsaved(&self, config: ConfigId) -> bool {
        self.waits.get(&config).is_some_and(|wait| wait.save_at.is_some())
    }

    /// An operator has ended what was asked for until `at`. Says whether that is what was known; what was
    /// asked for since then may be known still.
    pub(crate) fn end(&mut self, config: ConfigId, at: Timestamp) -> bool {
        let wait = self.waits.get(&config).copied().filter(|wait| wait.park.since <= at);
        let Some(Wait { last, .. }) = wait else { return false };
        self.forget(config);
        self.ended.insert(config, End { at, save_at: at });
        if last.since > at {
            self.asked(last, last.since);
        }
        true
    }

    pub(crate) const fn is_read(&self) -> bool {
        self.is_read
    }

    /// Compares with what the store has now. Returns the waits that are new or longer than was known, and the configs
    /// whose wait others have ended.
    pub(crate) fn compare(&mut self, stored: Vec<Park>) -> (Vec<Park>, Vec<ConfigId>) {
        self.is_read = true;
        let named: BTreeSet<ConfigId> = stored.iter().map(|park| park.config).collect();
        let mut longer = Vec::new();
        for park in stored {
            if !self.ended.contains_key(&park.config) && self.put(park, true) {
                longer.push(park);
            }
        }
        let is_over = |(config, wait): &(&ConfigId, &Wait)| {
            wait.stored && wait.save_at.is_none() && !named.contains(config)
        };
        let mut ended: Vec<ConfigId> = self.waits.iter().filter(is_over).map(|(config, _)| *config).collect();
        // In a fixed order, so that one seed gives one history.
        ended.sort_unstable();
        for config in &ended {
            self.forget(*config);
        }
        (longer, ended)
    }

    /// What is to be saved now.
    pub(crate) fn events(&self, now: Timestamp) -> Vec<ParkEvent> {
        let ended = self.ended.iter().filter(|(_, end)| end.save_at <= now);
        let ended = ended.map(|(config, end)| ParkEvent::Ended { config: *config, at: end.at });
        let due = self.saves.iter().take_while(|(at, _)| *at <= now);
        let asked = due.filter_map(|(_, config)| Some(ParkEvent::Asked(self.waits.get(config)?.park)));
        ended.chain(asked).collect()
    }

    /// What [`ParkLog::events`] gave is saved, or is to be tried again.
    pub(crate) fn saved(&mut self, events: &[ParkEvent], done: bool, now: Timestamp) {
        for one in events {
            match one {
                ParkEvent::Ended { config, .. } if done => {
                    self.ended.remove(config);
                }
                ParkEvent::Ended { config, at } => {
                    self.ended.insert(*config, End { at: *at, save_at: now.plus(SAVE_EVERY) });
                }
                ParkEvent::Asked(Park { config, .. }) => {
                    let Some(wait) = self.waits.get_mut(config) else { continue };
                    if let Some(at) = wait.save_at.take() {
                        self.saves.remove(&(at, *config));
                    }
                    wait.stored |= done;
                    wait.saved_at = Some(now);
                    if !done {
                        self.save_soon(*config, now);
                    }
                }
            }
        }
    }

    /// Says whether it is longer than what was known.
    fn put(&mut self, park: Park, stored: bool) -> bool {
        let longer = self.until(park.config).is_none_or(|known| known < park.until);
        let new = Wait { park, last: park, stored: false, saved_at: None, save_at: None };
        let wait = self.waits.entry(park.config).or_insert(new);
        if wait.last.since < park.since {
            wait.last = park;
        }
        if longer {
            wait.park = park;
        }
        wait.stored |= stored;
        self.count.set(self.waits.len());
        longer
    }

    fn save_soon(&mut self, config: ConfigId, now: Timestamp) {
        let Some(wait) = self.waits.get_mut(&config).filter(|wait| wait.save_at.is_none()) else { return };
        let at = wait.saved_at.map_or(now, |saved_at| now.max(saved_at.plus(SAVE_EVERY)));
        wait.save_at = Some(at);
        self.saves.insert((at, config));
    }

    /// Its wait is over.
    pub(crate) fn forget(&mut self, config: ConfigId) {
        let Some(wait) = self.waits.remove(&config) else { return };
        if let Some(at) = wait.save_at {
            self.saves.remove(&(at, config));
        }
        self.count.set(self.waits.len());
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::TaskId;

    use super::*;

    const A: ConfigId = ConfigId::new(1);
    const B: ConfigId = ConfigId::new(2);

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn park(config: ConfigId, since: i64, until: i64) -> Park {
        Park { config, since: at(since), until: at(until), by: TaskId::new(7) }
    }

    /// What is saved in a turn at `now`.
    fn save(log: &mut ParkLog, now: i64, done: bool) -> Vec<ParkEvent> {
        let events = log.events(at(now));
        log.saved(&events, done, at(now));
        events
    }

    #[test]
    fn it_is_saved_at_once_and_then_once_a_second() {
        let mut log = ParkLog::default();
        log.asked(park(A, 0, 90_000), at(0));
        assert_eq!(log.first_save(), Some(at(0)));
        assert_eq!(save(&mut log, 0, true), [ParkEvent::Asked(park(A, 0, 90_000))]);
        log.asked(park(A, 1, 80_000), at(1));
        assert_eq!(log.first_save(), None, "nothing is new");
        for since in 1..500 {
            log.asked(park(A, since, 90_000 + since), at(since));
            assert!(save(&mut log, since, true).is_empty());
        }
        assert_eq!(log.first_save(), Some(at(1_000)));
        assert_eq!(save(&mut log, 1_000, false), [ParkEvent::Asked(park(A, 499, 90_499))]);
        assert_eq!(log.first_save(), Some(at(2_000)), "what failed is tried again");
        assert_eq!(save(&mut log, 2_000, true).len(), 1);
        assert_eq!(log.first_save(), None);
    }

    #[test]
    fn an_end_counts_for_what_was_asked_for_before_it() {
        let mut log = ParkLog::default();
        log.asked(park(A, 5, 90), at(5));
        assert!(!log.end(A, at(4)) && !log.end(B, at(9)));
        assert!(log.end(A, at(5)));
        assert!(!log.contains(A));
        assert_eq!(log.compare(vec![park(A, 5, 90)]), (vec![], vec![]), "not saved yet");
        let end = [ParkEvent::Ended { config: A, at: at(5) }];
        assert_eq!(save(&mut log, 6, false), end);
        assert_eq!(log.first_save(), Some(at(1_006)));
        assert_eq!(save(&mut log, 1_006, true), end);
        assert_eq!(log.first_save(), None);
    }

    #[test]
    fn what_the_store_has_is_taken_over_and_what_it_has_no_more_is_over() {
        let mut log = ParkLog::default();
        assert_eq!(log.compare(vec![park(A, 0, 90)]), (vec![park(A, 0, 90)], vec![]));
        assert_eq!(log.first_save(), None, "and it need not be told");
        log.asked(park(B, 1, 80), at(1));
        assert_eq!(log.compare(vec![park(A, 0, 90)]), (vec![], vec![]), "B is on its way");
        save(&mut log, 1, true);
        assert_eq!(log.compare(vec![park(B, 1, 95)]), (vec![park(B, 1, 95)], vec![A]), "a longer one");
        assert_eq!(log.until(B), Some(at(95)));
        assert_eq!(log.compare(Vec::new()), (vec![], vec![B]));
    }
}
