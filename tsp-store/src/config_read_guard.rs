//! What work in flight was decided by: the number of the config cache when it read a config.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Held by work that reads configs, from before it first reads one until its transaction has ended. Cheap to
/// clone; all clones count as one.
#[derive(Debug, Clone)]
pub struct ConfigReadGuard(Arc<GuardLevel>);

/// All work that was decided by one number.
#[derive(Debug)]
struct GuardLevel {
    seq: i64,
    shared: Arc<GuardState>,
}

#[derive(Debug, Default)]
struct GuardState {
    finalising: Arc<Notify>,
    /// Of work whose end is not known, and until when it has surely ended.
    lingering: Mutex<Vec<(Instant, ConfigReadGuard)>>,
}

impl ConfigReadGuard {
    /// It is not known whether the work has ended: a statement was sent and not answered. It counts as in
    /// flight for so long.
    pub fn linger(self, length: Duration) {
        let shared = self.0.shared.clone();
        shared.lingering.lock().push((Instant::now() + length, self));
    }
}

impl Drop for GuardLevel {
    fn drop(&mut self) {
        self.shared.finalising.notify_one();
    }
}

/// The levels of a config cache: the one it is at, and older ones that something still stands on.
#[derive(Debug)]
pub(crate) struct ReadGuards {
    level: Arc<GuardLevel>,
    older: VecDeque<(i64, Weak<GuardLevel>)>,
}

impl Default for ReadGuards {
    fn default() -> Self {
        Self { level: Arc::new(GuardLevel { seq: 0, shared: Arc::default() }), older: VecDeque::new() }
    }
}

impl ReadGuards {
    pub(crate) fn read_guard(&self) -> ConfigReadGuard {
        ConfigReadGuard(self.level.clone())
    }

    /// From now on new work stands on `seq`.
    pub(crate) fn rise(&mut self, seq: i64) {
        self.older.retain(|(_, level)| level.strong_count() > 0);
        self.older.push_back((self.level.seq, Arc::downgrade(&self.level)));
        self.level = Arc::new(GuardLevel { seq, shared: self.level.shared.clone() });
    }

    pub(crate) fn finalised(&self) -> i64 {
        let now = Instant::now();
        // Dropped when the lock is free.
        let over: Vec<_> =
            self.level.shared.lingering.lock().extract_if(.., |(until, _)| *until <= now).collect();
        drop(over);
        let least = self.older.iter().find(|(_, level)| level.strong_count() > 0);
        least.map_or(self.level.seq, |(seq, _)| *seq)
    }

    pub(crate) fn finalising(&self) -> &Arc<Notify> {
        &self.level.shared.finalising
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_cache::ConfigCache;

    #[test]
    fn a_number_is_said_when_nothing_stands_on_less() {
        let config_cache = ConfigCache::default();
        config_cache.reach(5);
        let first = config_cache.read_guard();
        assert_eq!(config_cache.finalised(), 5);
        config_cache.reach(7);
        let second = config_cache.read_guard();
        config_cache.reach(9);
        config_cache.reach(8);
        let third = config_cache.read_guard();
        assert_eq!((config_cache.seq(), config_cache.finalised()), (9, 5));
        let clone = first.clone();
        drop(second);
        drop(first);
        assert_eq!(config_cache.finalised(), 5, "a clone is as good");
        drop(clone);
        assert_eq!(config_cache.finalised(), 9);
        drop(third);
        assert_eq!(config_cache.finalised(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_the_last_one_has_ended() {
        let config_cache = ConfigCache::default();
        let read_guard = config_cache.read_guard();
        config_cache.reach(1);
        let told = config_cache.finalising();
        let early = tokio::time::timeout(Duration::from_secs(1), told.notified()).await;
        assert!(early.is_err(), "it has not ended");
        drop(read_guard);
        told.notified().await;
        assert_eq!(config_cache.finalised(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_end_is_not_known_counts_for_a_while() {
        let config_cache = ConfigCache::default();
        config_cache.read_guard().linger(Duration::from_secs(3));
        config_cache.reach(1);
        tokio::time::advance(Duration::from_millis(2_999)).await;
        assert_eq!(config_cache.finalised(), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(config_cache.finalised(), 1);
    }
}
