//! What becomes of a config that was changed, deleted or asked to wait, and what is kept of such waits.

use tsp_core::{ConfigId, Millis, TaskId, Timestamp};
use tsp_store::Result;
use tsp_store::parks::Park;

use crate::fetcher::Fetcher;
use crate::holds::{Reason, Subject};

impl Fetcher {
    pub(crate) fn config_changed(&mut self, id: ConfigId, now: Timestamp) {
        let config = self.deps.config_cache.config(id);
        if config.is_some() && self.unknown.remove(&id) {
            // Hints of its tasks came before it, and were left out.
            self.rescue.look_again();
        }
        match config {
            Some(config) if self.ownership.holds(&config) => self.flow.see(&config, now),
            Some(_) => self.flow.drop_config(id, now),
            None => self.forget_config(id, now),
        }
        self.schedules.recompute(id);
    }

    /// It is deleted, or it is not followed yet: then what was left out is read when it comes.
    fn forget_config(&mut self, id: ConfigId, now: Timestamp) {
        self.unknown.insert(id);
        self.flow.drop_config(id, now);
        self.parks.forget(id);
        self.flow.release(Subject::Config(id), Reason::Parked, now);
    }

    /// Hints may be lost: what was changed since it was held is seen here.
    pub(crate) fn check_held(&mut self, now: Timestamp) {
        for id in self.flow.holds().configs() {
            self.flow.room_again(id, now);
            match self.deps.config_cache.config(id) {
                Some(config) if self.ownership.holds(&config) => self.flow.see(&config, now),
                Some(_) => self.flow.drop_config(id, now),
                None if self.parks.is_unsaved(id) => {}
                None => self.forget_config(id, now),
            }
        }
    }

    /// The answer to `by` asks the whole config to wait, if any of its tasks may be here.
    pub(crate) fn park(&mut self, config: ConfigId, by: TaskId, length: Millis, now: Timestamp) {
        let known = self.deps.config_cache.config(config);
        if known.is_none_or(|known| self.ownership.covers(&known)) || self.flow.knows(config) {
            let until = now.plus(length);
            self.parks.asked(Park { config, since: now, until, by }, now);
            self.flow.hold(Subject::Config(config), Reason::Parked, Some(until));
        }
    }

    /// An operator has ended what was asked for until `at`.
    pub(crate) fn end_park(&mut self, config: ConfigId, at: Timestamp, now: Timestamp) {
        if self.parks.end(config, at) {
            self.release_parked(config, now);
            if let Some(until) = self.parks.until(config) {
                self.flow.hold(Subject::Config(config), Reason::Parked, Some(until));
            }
        }
    }

    fn release_parked(&mut self, config: ConfigId, now: Timestamp) {
        self.flow.release(Subject::Config(config), Reason::Parked, now);
        self.flow.room_again(config, now);
    }

    /// Releases those whose hold has expired.
    pub(crate) fn end_holds(&mut self, now: Timestamp) {
        while let Some((subject, reason)) = self.flow.end_expired(now) {
            if let (Subject::Config(config), Reason::Parked) = (subject, reason) {
                self.parks.forget(config);
                self.flow.room_again(config, now);
            }
        }
    }

    /// What former owners and others have saved; events of it may be lost.
    pub(crate) async fn read_parks(&mut self, now: Timestamp) -> Result<()> {
        let mut stored = self.deps.store.parks(!self.parks.is_read(), now).await?;
        stored.retain(|park| {
            let is_known = self.deps.config_cache.config(park.config).is_some();
            if !is_known {
                self.unknown.insert(park.config);
            }
            is_known || self.parks.contains(park.config)
        });
        let (longer, ended) = self.parks.compare(stored);
        for park in longer {
            self.flow.hold(Subject::Config(park.config), Reason::Parked, Some(park.until));
        }
        for config in ended {
            self.release_parked(config, now);
        }
        Ok(())
    }

    /// For the next owner, and for those who ask. A failure holds up nothing.
    pub(crate) async fn save_parks(&mut self, now: Timestamp) {
        let events = self.parks.events(now);
        if events.is_empty() {
            return;
        }
        let saved = self.deps.store.save_parks(events.clone()).await;
        if let Err(error) = &saved {
            tracing::warn!(%error, configs = events.len(), "cannot save which configs are parked, will try again");
        }
        self.parks.saved(&events, saved.is_ok(), now);
    }
}
