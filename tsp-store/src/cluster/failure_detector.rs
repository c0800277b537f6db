//! Who has failed: what the living change has not changed for a lease, by the observer's own monotonic clock.

use std::collections::HashMap;
use std::hash::Hash;

use tsp_core::{Millis, MonotonicInstant};

/// When a reading was sent and when its answer was there. What it shows was true at some moment between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub sent: MonotonicInstant,
    pub received: MonotonicInstant,
}

/// Observes values by key. What is not in an observation is forgotten, and is new when it is back.
///
/// After a gap of its own (a failed or late observation) the detector knows nothing: perhaps it was the
/// database that was unavailable, and nobody could renew anything.
#[derive(Debug)]
pub struct FailureDetector<K, V> {
    lease: Millis,
    last: Option<Observation>,
    seen: HashMap<K, SeenValue<V>>,
}

#[derive(Debug)]
struct SeenValue<V> {
    value: V,
    /// When the first answer with this value was there.
    since: MonotonicInstant,
}

impl<K: Eq + Hash, V: PartialEq> FailureDetector<K, V> {
    /// For leases of this length: half of it without an observation is a gap.
    pub fn of_lease(lease: Millis) -> Self {
        Self { lease, last: None, seen: HashMap::new() }
    }

    /// Everything starts from nothing at the next observation.
    pub fn reset(&mut self) {
        self.last = None;
        self.seen.clear();
    }

    pub fn observe(&mut self, observation: Observation, shown: impl IntoIterator<Item = (K, V)>) {
        let gap = self.last.map(|last| observation.received.since(last.received));
        let longest_gap = Millis::from_ms(self.lease.ms() / 2);
        if gap.is_none_or(|gap| gap > longest_gap)
            || observation.received.since(observation.sent) > longest_gap
        {
            self.seen.clear();
        }
        let mut before = std::mem::take(&mut self.seen);
        let keep = |(key, value)| {
            let known = before.remove(&key).filter(|known| known.value == value);
            let seen = known.unwrap_or(SeenValue { value, since: observation.received });
            (key, seen)
        };
        self.seen = shown.into_iter().map(keep).collect();
        self.last = Some(observation);
    }

    /// Its holder has not renewed for a whole lease.
    pub fn has_failed(&self, key: &K) -> bool {
        self.unchanged_for(key).is_some_and(|still| still >= self.lease)
    }

    /// For how long the value has certainly not changed; `None` when it was not in the last observation.
    pub fn unchanged_for(&self, key: &K) -> Option<Millis> {
        let (seen, last) = (self.seen.get(key)?, self.last?);
        Some(Millis::from_ms(last.sent.since(seen.since).ms().max(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Millis = Millis::from_secs(5);

    fn at(ms: i64) -> Observation {
        Observation { sent: MonotonicInstant::from_ms(ms), received: MonotonicInstant::from_ms(ms + 10) }
    }

    fn watched(values: &[(i64, i64)]) -> FailureDetector<&'static str, i64> {
        let mut watch = FailureDetector::of_lease(LEASE);
        for (ms, value) in values {
            watch.observe(at(*ms), [("a", *value)]);
        }
        watch
    }

    #[test]
    fn counts_from_the_answer_to_the_question() {
        let watch = watched(&[(0, 7), (1_000, 7), (2_000, 7)]);
        assert_eq!(watch.unchanged_for(&"a"), Some(Millis::from_ms(1_990)));
        assert_eq!(watch.unchanged_for(&"b"), None);
    }

    #[test]
    fn a_change_starts_it_again() {
        let watch = watched(&[(0, 7), (1_000, 7), (2_000, 8), (3_000, 8)]);
        assert_eq!(watch.unchanged_for(&"a"), Some(Millis::from_ms(990)));
    }

    #[test]
    fn a_break_of_its_own_starts_it_again() {
        let late = watched(&[(0, 7), (1_000, 7), (6_000, 7)]);
        assert_eq!(late.unchanged_for(&"a"), Some(Millis::ZERO), "it was frozen itself");

        let mut failed = watched(&[(0, 7), (1_000, 7), (2_000, 7)]);
        failed.reset();
        assert_eq!(failed.unchanged_for(&"a"), None);
        failed.observe(at(3_000), [("a", 7)]);
        assert_eq!(failed.unchanged_for(&"a"), Some(Millis::ZERO));

        let mut slow = watched(&[(0, 7), (1_000, 7)]);
        slow.observe(
            Observation {
                sent: MonotonicInstant::from_ms(1_100),
                received: MonotonicInstant::from_ms(3_700),
            },
            [("a", 7)],
        );
        assert_eq!(slow.unchanged_for(&"a"), Some(Millis::ZERO), "it took too long to answer");
    }

    #[test]
    fn what_was_out_of_sight_is_watched_again() {
        let mut watch = watched(&[(0, 7), (1_000, 7)]);
        watch.observe(at(2_000), []);
        watch.observe(at(3_000), [("a", 7)]);
        assert_eq!(watch.unchanged_for(&"a"), Some(Millis::ZERO));
    }
}
