//! One turn of the fetcher: events, schedules, deadlines, claims, publishing, and now and then a resync.

use std::sync::Arc;

use tsp_core::ids::IdSet;
use tsp_core::{ConfigId, Timestamp};
use tsp_queue::{Inbox, InboxEvents, Message, Turn};
use tsp_store::{Result, StoreError};

use crate::deadlines::Deadlines;
use crate::dependencies::FetcherDependencies;
use crate::flow::Flow;
use crate::holds::HoldsView;
use crate::options::FetcherOptions;
use crate::ownership::ShardOwnership;
use crate::park_log::ParkLog;
use crate::rescue::Rescue;
use crate::schedules::Schedules;
use crate::window::Claim;

/// What a turn did, and when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub claimed: usize,
    pub published: usize,
    pub fired: usize,
    pub rescued: usize,
    /// The next turn without events.
    pub next: Timestamp,
    pub turn: Turn,
    /// Somebody else owns the shards now: stop.
    pub deposed: bool,
}

pub struct Fetcher {
    pub(crate) deps: FetcherDependencies,
    pub(crate) ownership: ShardOwnership,
    pub(crate) flow: Flow,
    pub(crate) parks: ParkLog,
    pub(crate) schedules: Schedules,
    pub(crate) deadlines: Deadlines,
    pub(crate) rescue: Rescue,
    /// Configs that were hinted at and that the config cache does not have: deleted, or not yet followed.
    pub(crate) unknown: IdSet<ConfigId>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("owner", &self.deps.owner).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Knows nothing yet: its first step reads it all.
    pub fn new(deps: FetcherDependencies, options: FetcherOptions) -> Self {
        Self {
            ownership: ShardOwnership::of(&*deps.store, deps.shards),
            flow: Flow::new(deps.config_cache.clone(), deps.totals.clone(), &options),
            parks: ParkLog::default(),
            schedules: Schedules::default(),
            deadlines: Deadlines::default(),
            rescue: Rescue::new(options),
            unknown: IdSet::default(),
            deps,
        }
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.deps.inbox
    }

    /// What is held back.
    pub fn holds(&self) -> HoldsView {
        self.flow.holds().view().clone()
    }

    /// One turn. On an error everything done before it stands, and the next turn goes on from there.
    pub async fn step(&mut self, now: Timestamp) -> Result<Report> {
        let result = self.turn(now).await;
        if let Err(StoreError::Unknown(_)) = &result {
            self.rescue.look_again();
        }
        result
    }

    async fn turn(&mut self, now: Timestamp) -> Result<Report> {
        let received = self.deps.inbox.drain();
        if received.look_again {
            self.rescue.look_again();
        }
        if received.pipe_lost {
            self.rescue.pipe_lost(now);
        }
        self.take_in(received, now);
        let is_due = now >= self.rescue.resync_at();
        let rescued = if is_due { self.resync(now).await? } else { self.rescue_rows(now).await? };
        self.end_holds(now);
        self.save_parks(now).await;
        let fired = self.fire_schedules(now).await?;
        self.end_waits(now).await?;
        let claimed = self.claim(now).await?;
        let published = self.publish(now).await;
        let (next, turn) = self.plan_next(now);
        Ok(Report { claimed, published, fired, rescued, next, turn, deposed: self.ownership.is_over() })
    }

    fn take_in(&mut self, received: InboxEvents, now: Timestamp) {
        for (config, due_at) in received.due {
            self.flow.due(config, due_at);
        }
        for config in received.changed {
            self.config_changed(config, now);
        }
        for (config, at) in received.unparked {
            self.end_park(config, at, now);
        }
        for (config, (task, length)) in received.parks {
            self.park(config, task, length, now);
        }
        for said in received.feedback {
            if self.flow.closed(said.task, said.version) {
                self.rescue.forget(said.task);
            }
            if let Some(due_at) = said.due_again {
                said.config.into_iter().for_each(|config| self.flow.due(config, due_at));
            }
            if let Some(deadline) = said.awaits_until {
                self.deadlines.lower(deadline);
            }
            let Some(config) = said.config else { continue };
            if let Some(length) = said.park {
                self.park(config, said.task, length, now);
            }
            if said.due_again.is_none() && said.awaits_until.is_none() {
                self.schedules.may_have_ended(config);
            }
        }
    }

    /// Claims from every config that is due soon and has room. Claims are made ahead, in gulps of half
    /// the look-ahead, so that a steady stream costs a transaction now and then and not one a task.
    async fn claim(&mut self, now: Timestamp) -> Result<usize> {
        let (wants, ranks) = self.flow.wants(&mut self.unknown, now);
        if wants.is_empty() {
            return Ok(0);
        }
        let claimed = self.deps.store.claim(self.deps.owner, wants, now).await?;
        self.ownership.note(claimed.deposed);
        Ok(self.flow.claimed(claimed, &ranks))
    }

    async fn publish(&mut self, now: Timestamp) -> usize {
        let queue = &self.deps.queue;
        let claims = self.flow.take(|| self.deps.publisher.room(queue), now);
        if claims.is_empty() {
            return 0;
        }
        let rows: Vec<_> = claims.iter().map(|claim| (claim.row, claim.bytes())).collect();
        let messages = claims
            .into_iter()
            .map(|Claim { row, task }| Message { id: row.id, version: row.version, row: task })
            .collect();
        let results = self.deps.publisher.publish(queue, messages).await;
        self.flow.sent(&rows, results, now)
    }

    fn plan_next(&self, now: Timestamp) -> (Timestamp, Turn) {
        let resync_at = self.rescue.resync_at();
        let go_on = self.rescue.is_walking().then_some(now);
        let (flow, fire) = (self.flow.next(), self.schedules.next());
        let (deadline, save) = (self.deadlines.next(), self.parks.first_save());
        let next = [flow, fire, deadline, save, go_on].into_iter().flatten().fold(resync_at, Timestamp::min);
        let next = next.max(now);
        let events_before = next.plus(self.flow.half_lookahead());
        (next, Turn { events_before, wants_room: self.flow.wants_room() || self.schedules.has_waiting() })
    }
}

/// A store error that the next turn may not meet again.
pub(crate) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown(_))
}
