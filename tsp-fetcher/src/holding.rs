//! What is held back, and what lets it go: paused, parked and starved configs.

use tsp_core::{ConfigId, Millis, TaskId, Timestamp};
use tsp_store::Result;
use tsp_store::parks::Park;

use crate::fetcher::{Fetcher, rank_of};

impl Fetcher {
    /// Hints may be lost: configs that were let go since they were blocked come back.
    pub(crate) fn recheck_blocked(&mut self, now: Timestamp) {
        for config in self.heads.blocked() {
            self.feed(config, now);
            self.unblock(config, now);
        }
    }

    pub(crate) fn config_changed(&mut self, id: ConfigId, now: Timestamp) {
        if self.parts.book.config(id).is_none() {
            self.unknown.insert(id);
        } else if self.unknown.remove(&id) {
            // Hints of its tasks came before it, and were passed over.
            self.look_again();
        }
        match self.parts.book.config(id) {
            Some(config) if !self.partition.holds(&config) => self.forget_config(id, now),
            Some(config) if config.runnable() => {
                self.heads.rank(id, rank_of(&config));
                self.unblock(id, now);
            }
            // Its rows wait; the change that lets them go says so.
            Some(_) => self.heads.block(id),
            None => self.forget_config(id, now),
        }
        self.recompute.insert(id);
    }

    fn forget_config(&mut self, id: ConfigId, now: Timestamp) {
        self.heads.set(id, None);
        self.starved.remove(&id);
        self.unblock(id, now);
    }

    /// The answer to `by` asks the whole config to wait, if any of its tasks may be here.
    pub(crate) fn park(&mut self, config: ConfigId, by: TaskId, length: Millis, now: Timestamp) {
        let known = self.parts.book.config(config);
        let covers = known.is_none_or(|known| self.partition.covers(&known, self.parts.shards));
        if covers || self.heads.knows(config) {
            self.parked.park(Park { config, since: now, until: now.plus(length), by }, now);
            self.hold_parked(config);
        }
    }

    fn hold_parked(&mut self, config: ConfigId) {
        self.heads.block(config);
        self.window.park(config);
        self.held.hold(config);
    }

    /// Lets those go whose time is over.
    pub(crate) fn unpark(&mut self, now: Timestamp) {
        while let Some(config) = self.parked.pop_over(now) {
            self.let_go_parked(config, now);
        }
    }

    /// A person has ended what was asked for until `at`.
    pub(crate) fn end_wait(&mut self, config: ConfigId, at: Timestamp, now: Timestamp) {
        if self.parked.end(config, at) {
            self.let_go_parked(config, now);
        }
    }

    fn let_go_parked(&mut self, config: ConfigId, now: Timestamp) {
        self.window.unpark(config);
        self.feed(config, now);
        self.unblock(config, now);
    }

    /// What former owners and others have kept; news of it may be lost.
    pub(crate) async fn read_parks(&mut self, now: Timestamp) -> Result<()> {
        let stored = self.parts.store.parks(!self.parks_read, now).await?;
        self.parks_read = true;
        let (new, ended) = self.parked.compare(stored);
        for config in new {
            self.hold_parked(config);
        }
        for config in ended {
            self.let_go_parked(config, now);
        }
        Ok(())
    }

    /// For whoever comes after us, and for those who look. A failure holds up nothing.
    pub(crate) async fn save_parks(&mut self, now: Timestamp) {
        let news = self.parked.news(now);
        if news.is_empty() {
            return;
        }
        let saved = self.parts.store.save_parks(news.clone()).await;
        if let Err(error) = &saved {
            tracing::warn!(%error, configs = news.len(), "cannot save which configs are parked, will try again");
        }
        self.parked.saved(&news, saved.is_ok(), now);
    }

    /// No more of it fits into the window.
    pub(crate) fn starve(&mut self, config: ConfigId) {
        self.heads.block(config);
        self.starved.insert(config);
        self.held.hold(config);
    }

    /// A config that was left out for want of room comes back when it has it.
    pub(crate) fn feed(&mut self, config: ConfigId, now: Timestamp) {
        if self.starved.contains(&config) && self.window.room_for(config, 0) > 0 {
            self.starved.remove(&config);
            self.unblock(config, now);
        }
    }

    /// Lets a config go, unless there is another reason to hold it.
    fn unblock(&mut self, id: ConfigId, now: Timestamp) {
        if self.starved.contains(&id) || self.parked.contains(id) {
            return;
        }
        if self.parts.book.config(id).is_none_or(|config| config.runnable()) && self.heads.unblock(id) {
            self.held.let_go(id, now);
        }
    }
}
