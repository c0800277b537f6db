//! Permits: how many attempts run at once, in all and per config.

use parking_lot::Mutex;
use tokio::sync::watch;
use tsp_core::ConfigId;
use tsp_core::ids::IdMap;

/// Permits for running attempts. One is taken before begin, or a task would be `too_late` that
/// only waits. No config takes more than its share, so a slow receiver never holds the whole worker.
#[derive(Debug)]
pub struct Permits {
    total: usize,
    per_config: usize,
    state: Mutex<State>,
    freed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    busy: usize,
    by_config: IdMap<ConfigId, usize>,
}

impl Permits {
    pub fn new(total: usize, per_config: usize) -> Self {
        let total = total.max(1);
        Self {
            total,
            per_config: per_config.clamp(1, total),
            state: Mutex::default(),
            freed: watch::Sender::default(),
        }
    }

    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.state.lock().busy)
    }

    pub fn busy(&self) -> usize {
        self.state.lock().busy
    }

    pub fn is_open_for(&self, config: ConfigId) -> bool {
        let state = self.state.lock();
        state.busy < self.total && state.by_config.get(&config).is_none_or(|busy| *busy < self.per_config)
    }

    /// Takes a permit if there is one for `config`.
    pub fn try_take(&self, config: ConfigId) -> bool {
        let mut state = self.state.lock();
        if state.busy >= self.total {
            return false;
        }
        let of_config = state.by_config.entry(config).or_default();
        if *of_config >= self.per_config {
            return false;
        }
        *of_config += 1;
        state.busy += 1;
        true
    }

    pub fn put_back(&self, config: ConfigId) {
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_sub(1);
        if let Some(busy) = state.by_config.get_mut(&config) {
            *busy -= 1;
            if *busy == 0 {
                state.by_config.remove(&config);
            }
        }
        drop(state);
        self.freed.send_replace(());
    }

    /// Whoever waits for a permit tries again.
    pub(crate) fn wake(&self) {
        self.freed.send_replace(());
    }

    /// Changes when a permit is released; each worker that shares the permits has its own.
    pub fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_config_never_takes_all() {
        let permits = Permits::new(4, 2);
        let (slow, other) = (ConfigId::new(1), ConfigId::new(2));
        assert!(permits.try_take(slow) && permits.try_take(slow));
        assert!(!permits.try_take(slow));
        assert!(permits.try_take(other) && permits.try_take(other));
        assert!(!permits.try_take(ConfigId::new(3)), "four in all");
        permits.put_back(slow);
        assert!(permits.is_open_for(slow));
        assert_eq!(permits.free(), 1);
    }
}
