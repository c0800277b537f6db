//! What stands between a row that is due and the pipe: the index of due times, the window, and what is held.

pub(crate) mod claim_requests;

use std::collections::BTreeSet;
use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, Millis, TaskId, Timestamp};
use tsp_queue::{Message, PublishError};
use tsp_store::ConfigCache;
use tsp_store::fetching::{BareRow, ClaimResult};

use crate::due_index::DueIndex;
use crate::flow::claim_requests::Ranks;
use crate::holds::{Holds, Reason, Stage, Subject};
use crate::options::FetcherOptions;
use crate::totals::WindowTotals;
use crate::turns::Rank;
use crate::window::{Claim, PublishedMessage, Window};

/// A config is in the order of the index, and in that of the window, as far as nothing in `holds` stops it there.
pub(crate) struct Flow {
    config_cache: Arc<ConfigCache>,
    holds: Holds,
    due: DueIndex,
    window: Window,
    last_publish: Timestamp,
    /// Rows are claimed up to this long before their time, in gulps of half of it.
    lookahead: Millis,
    publish_tick: Millis,
}

impl Flow {
    pub(crate) fn new(
        config_cache: Arc<ConfigCache>,
        totals: Arc<WindowTotals>,
        options: &FetcherOptions,
    ) -> Self {
        Self {
            config_cache,
            holds: Holds::default(),
            due: DueIndex::default(),
            window: Window::new(options.window, totals),
            last_publish: Timestamp::ZERO,
            lookahead: options.lookahead,
            publish_tick: options.publish_tick,
        }
    }

    pub(crate) fn holds(&self) -> &Holds {
        &self.holds
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    // --- what is held ---

    pub(crate) fn hold(&mut self, subject: Subject, reason: Reason, until: Option<Timestamp>) {
        if self.holds.add(subject, reason, until) {
            self.apply(subject);
        }
    }

    /// Hints of a config may be lost, so what it says itself is seen with that.
    pub(crate) fn release(&mut self, subject: Subject, reason: Reason, now: Timestamp) {
        self.end(subject, reason, now);
        if let Subject::Config(id) = subject
            && let Some(config) = self.config_cache.config(id)
        {
            self.see(&config, now);
        }
    }

    fn end(&mut self, subject: Subject, reason: Reason, now: Timestamp) {
        if self.holds.end(subject, reason, now) {
            self.apply(subject);
        }
    }

    /// Ends a hold that has expired, and says which. To be called until there is none.
    pub(crate) fn end_expired(&mut self, now: Timestamp) -> Option<(Subject, Reason)> {
        let (_, subject, reason) = self.holds.first_end().filter(|(until, ..)| *until <= now)?;
        self.release(subject, reason, now);
        Some((subject, reason))
    }

    /// A config was made or changed, or may have been.
    pub(crate) fn see(&mut self, config: &TaskConfig, now: Timestamp) {
        self.due.rank(config.id, Rank::of(config));
        let subject = Subject::Config(config.id);
        let reasons = [(Reason::Paused, config.paused.is_some()), (Reason::Disabled, !config.spec.enabled)];
        for (reason, is_so) in reasons {
            if is_so {
                self.hold(subject, reason, None);
            } else {
                self.end(subject, reason, now);
            }
        }
    }

    /// Nothing of it is to be claimed here any more. What was claimed still waits for its receiver.
    pub(crate) fn drop_config(&mut self, config: ConfigId, now: Timestamp) {
        self.due.set(config, None);
        for reason in [Reason::Paused, Reason::Disabled, Reason::Slots] {
            self.end(Subject::Config(config), reason, now);
        }
    }

    /// A config that was left out for want of room comes back when it has it.
    pub(crate) fn room_again(&mut self, config: ConfigId, now: Timestamp) {
        let subject = Subject::Config(config);
        if self.lacks_room() && self.holds.has(subject, Reason::Slots) && self.window.room_for(config, 0) > 0
        {
            self.release(subject, Reason::Slots, now);
        }
    }

    fn lacks_room(&self) -> bool {
        self.holds.count(Reason::Slots) > 0
    }

    /// Its configs enter and leave by what holds them now; others stay as they are.
    fn apply(&mut self, subject: Subject) {
        if let Subject::Config(config) = subject {
            return self.apply_to(config);
        }
        // In a fixed order, so that one seed gives one history.
        let configs: BTreeSet<_> = self.due.configs().chain(self.window.configs()).collect();
        for config in configs {
            self.apply_to(config);
        }
    }

    fn apply_to(&mut self, config: ConfigId) {
        if self.may(config, Stage::Claim) {
            self.due.enter(config);
        } else {
            self.due.leave(config);
        }
        if self.may(config, Stage::Publish) {
            self.window.enter_turns(config);
        } else {
            self.window.leave_turns(config);
        }
    }

    fn may(&self, config: ConfigId, stage: Stage) -> bool {
        may(&self.holds, &self.config_cache, config, stage)
    }

    // --- what is due ---

    /// Whether anything of it is scheduled.
    pub(crate) fn knows(&self, config: ConfigId) -> bool {
        self.due.knows(config)
    }

    /// There is something at `due_at`, perhaps not the earliest.
    pub(crate) fn due(&mut self, config: ConfigId, due_at: Timestamp) {
        self.due.lower(config, due_at);
        self.keep_out_held(config);
    }

    /// What the database says now of all configs.
    pub(crate) fn due_are(&mut self, all: impl IntoIterator<Item = (ConfigId, Timestamp)>) {
        for config in self.due.replace(all) {
            self.keep_out_held(config);
        }
    }

    fn keep_out_held(&mut self, config: ConfigId) {
        if !self.may(config, Stage::Claim) {
            self.due.leave(config);
        }
    }

    // --- claims ---

    /// Returns how many rows are in the window by that.
    pub(crate) fn claimed(&mut self, claimed: ClaimResult, ranks: &Ranks) -> usize {
        for (config, earliest) in claimed.earliest_due {
            self.due.set(config, earliest);
        }
        let count = claimed.tasks.len() + claimed.bare.len();
        let whole = claimed.tasks.into_iter().map(Claim::whole);
        for claim in whole.chain(claimed.bare.into_iter().map(Claim::bare)) {
            let rank = ranks.get(&claim.row.config).copied().unwrap_or_default();
            self.window.add(claim, rank);
        }
        count
    }

    // --- the pipe ---

    /// The next rows to publish, at most `room`.
    pub(crate) fn take(&mut self, room: impl FnOnce() -> usize, now: Timestamp) -> Vec<Claim> {
        if self.publish_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let (holds, config_cache) = (&self.holds, &self.config_cache);
        self.window.ripen(now, |config| may(holds, config_cache, config, Stage::Publish));
        let claims = self.window.take(room());
        if !claims.is_empty() {
            self.last_publish = now;
        }
        claims
    }

    /// What [`Flow::take`] gave is in the pipe, or did not fit and comes back. Returns how many are in the pipe.
    pub(crate) fn sent(
        &mut self,
        rows: &[(BareRow, usize)],
        results: Vec<Result<(), (Message, PublishError)>>,
        now: Timestamp,
    ) -> usize {
        let (mut published, mut refused) = (0, Vec::new());
        for (result, (row, bytes)) in results.into_iter().zip(rows) {
            match result {
                Ok(()) => {
                    let BareRow { id, config, version, .. } = *row;
                    self.window.published(id, PublishedMessage { config, version, at: now, bytes: *bytes });
                    published += 1;
                }
                Err((message, error)) => {
                    tracing::debug!(task = %row.id, config = %row.config, %error, "not published");
                    refused.push(Claim { row: *row, task: message.row });
                }
            }
        }
        for claim in refused.into_iter().rev() {
            self.window.put_back(claim);
        }
        for (row, _) in rows {
            self.room_again(row.config, now);
        }
        published
    }

    /// Messages of this version of a row, and of earlier ones, were dealt with. Says whether one was ours.
    pub(crate) fn closed(&mut self, task: TaskId, version: i64) -> bool {
        let Some(config) = self.window.closed(task, version) else { return false };
        if self.may(config, Stage::Publish) {
            self.window.enter_turns(config);
        }
        true
    }

    // --- what comes next ---

    pub(crate) fn half_lookahead(&self) -> Millis {
        Millis::from_ms(self.lookahead.ms() / 2)
    }

    /// When rows are to be published next: at their time, but not more often than the tick; and at once
    /// when due rows wait and there is room.
    fn publish_at(&self) -> Option<Timestamp> {
        if self.window.has_turns() {
            return Some(Timestamp::ZERO);
        }
        let due_at = self.window.first_due()?;
        Some(due_at.max(self.last_publish.plus(self.publish_tick)))
    }

    /// When something is to be done without events.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let queue_full = self.window.has_turns();
        let publish = if queue_full { None } else { self.publish_at() };
        let claim = self.due.first().map(|due_at| due_at.minus(self.half_lookahead()));
        let end = self.holds.first_end().map(|(until, ..)| until);
        [publish, claim, end].into_iter().flatten().min()
    }

    /// Whether anything waits for room.
    pub(crate) fn wants_room(&self) -> bool {
        self.window.has_backlog() || self.lacks_room()
    }
}

fn may(holds: &Holds, config_cache: &ConfigCache, config: ConfigId, stage: Stage) -> bool {
    !holds.any(stage)
        || holds.stage(config, config_cache.config(config).map(|config| config.app_id)) < Some(stage)
}
