//! One turn of the fetcher: news, schedules, deadlines, claims, publishing, and now and then a resync.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::{ConfigId, Entropy, Millis, Name, TaskId, Timestamp};
use tsp_queue::{Inbox, Message, Publisher, Received, Turn};
use tsp_store::schedule::{Cursor, Owner, Partition, Want};
use tsp_store::{ConfigBook, IdSource, Result, ScheduleStore, StoreError};

use crate::heads::Heads;
use crate::held::HeldConfigs;
use crate::parked::Parked;
use crate::rescue::{Repeats, Scan};
use crate::totals::WindowTotals;
use crate::turns::Rank;
use crate::window::{Claim, Published, Window, WindowLimits};

/// Configs claimed from in one transaction; the rest goes in the next turn, which follows at once.
const CONFIGS_PER_CLAIM: usize = 256;
/// About so many rows in one claim, because begins and finishes wait behind it in the store. Its configs get
/// `ROWS_PER_TURN` in turns, each at least once and none more than `ROWS_PER_CONFIG_MAX`.
const ROWS_PER_CLAIM: usize = 4_096;
const ROWS_PER_CONFIG_MAX: usize = 512;
const ROWS_PER_TURN: usize = 64;

#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// Rows are claimed up to this long before their time.
    pub lookahead: Millis,
    /// At high rates messages are published in ticks of this length; a lone one goes at once.
    pub publish_tick: Millis,
    /// How often memory is compared with the rows.
    pub resync: Millis,
    /// A message not heard of for this long is sent again; doubled for each repeat of a task.
    pub pipe_timeout: Millis,
    /// After the news that a part of the pipe was lost, what was in the pipe by then is sent again when it is not
    /// heard of for this long.
    pub lost_timeout: Millis,
    pub window: WindowLimits,
}

impl Default for FetcherOptions {
    fn default() -> Self {
        Self {
            lookahead: Millis::from_secs(1),
            publish_tick: Millis::from_ms(1),
            resync: Millis::from_secs(5),
            pipe_timeout: Millis::from_secs(30),
            lost_timeout: Millis::from_secs(2),
            window: WindowLimits::default(),
        }
    }
}

/// What a fetcher works with.
#[derive(Clone)]
pub struct Parts {
    /// The partition it schedules.
    pub store: Arc<dyn ScheduleStore>,
    pub book: Arc<ConfigBook>,
    /// Of the whole store.
    pub shards: u16,
    pub publisher: Arc<dyn Publisher>,
    /// Where all tasks go: configs that name another queue are refused at the API until workers can.
    pub queue: Name,
    pub inbox: Arc<Inbox>,
    pub ids: IdSource,
    pub entropy: Arc<dyn Entropy>,
    pub owner: Owner,
    /// Of all fetchers of the process.
    pub totals: Arc<WindowTotals>,
}

/// What a turn did, and when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub claimed: usize,
    pub published: usize,
    pub fired: usize,
    pub rescued: usize,
    /// The next turn without news.
    pub next: Timestamp,
    pub turn: Turn,
    /// Somebody else owns the shards now: stop.
    pub deposed: bool,
}

pub struct Fetcher {
    pub(crate) parts: Parts,
    pub(crate) partition: Partition,
    pub(crate) options: FetcherOptions,
    pub(crate) heads: Heads,
    pub(crate) window: Window,
    /// Configs that wait for a `Retry-After`.
    pub(crate) parked: Parked,
    /// Whether what former owners knew of them was read.
    pub(crate) parks_read: bool,
    /// Configs left out of the heads' order for want of room in the window.
    pub(crate) starved: HashSet<ConfigId>,
    /// Configs that were hinted at and that the book does not have: deleted, or not yet followed.
    pub(crate) unknown: HashSet<ConfigId>,
    pub(crate) held: HeldConfigs,
    pub(crate) cursors: HashMap<ConfigId, Cursor>,
    /// When each schedule is to be handled.
    pub(crate) fire_order: Heads,
    /// Cron configs whose cursor is to be computed again, or whose waiting occurrence may go.
    pub(crate) recompute: BTreeSet<ConfigId>,
    /// Overlap `queue_one`: an occurrence waits for the open one to end.
    pub(crate) waiting: HashSet<ConfigId>,
    pub(crate) next_deadline: Option<Timestamp>,
    /// How often a task was sent again without an answer.
    pub(crate) repeats: HashMap<TaskId, Repeats>,
    /// When parts of the pipe were lost, oldest first, as far as it was not made good.
    pub(crate) losses: Vec<Timestamp>,
    pub(crate) resync_at: Timestamp,
    /// A look at what is in flight that is not at its end.
    pub(crate) scan: Option<Scan>,
    /// The book's state that the cursors were last compared with.
    pub(crate) book_seq: i64,
    last_publish: Timestamp,
    pub(crate) deposed: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("owner", &self.parts.owner).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Knows nothing yet: its first step reads it all.
    pub fn new(parts: Parts, options: FetcherOptions) -> Self {
        Self {
            window: Window::new(options.window, parts.totals.clone()),
            partition: parts.store.partition(),
            parts,
            options,
            heads: Heads::default(),
            parked: Parked::default(),
            parks_read: false,
            starved: HashSet::new(),
            unknown: HashSet::new(),
            held: HeldConfigs::default(),
            cursors: HashMap::new(),
            fire_order: Heads::default(),
            recompute: BTreeSet::new(),
            waiting: HashSet::new(),
            next_deadline: None,
            repeats: HashMap::new(),
            losses: Vec::new(),
            resync_at: Timestamp::ZERO,
            scan: None,
            book_seq: -1,
            last_publish: Timestamp::ZERO,
            deposed: false,
        }
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.parts.inbox
    }

    pub fn held(&self) -> HeldConfigs {
        self.held.clone()
    }

    /// One turn. On an error everything done before it stands, and the next turn goes on from there.
    pub async fn step(&mut self, now: Timestamp) -> Result<Report> {
        let result = self.turn(now).await;
        if let Err(StoreError::Unknown(_)) = &result {
            self.look_again();
        }
        result
    }

    /// Something may have happened that we were not told: the next turn reads the rows.
    pub(crate) fn look_again(&mut self) {
        self.resync_at = Timestamp::ZERO;
    }

    async fn turn(&mut self, now: Timestamp) -> Result<Report> {
        let received = self.parts.inbox.drain();
        if received.look_again {
            self.look_again();
        }
        if received.pipe_lost {
            self.pipe_lost(now);
        }
        self.take_in(received, now);
        let rescued = if now >= self.resync_at { self.resync(now).await? } else { self.rescue(now).await? };
        self.unpark(now);
        self.save_parks(now).await;
        let fired = self.fire_schedules(now).await?;
        self.end_waits(now).await?;
        let claimed = self.claim(now).await?;
        let published = self.publish(now).await;
        let (next, turn) = self.plan_next(now);
        Ok(Report { claimed, published, fired, rescued, next, turn, deposed: self.deposed })
    }

    fn take_in(&mut self, received: Received, now: Timestamp) {
        for (config, due_at) in received.due {
            self.heads.lower(config, due_at);
        }
        for config in received.changed {
            self.config_changed(config, now);
        }
        for (config, at) in received.unparked {
            self.end_wait(config, at, now);
        }
        for (config, (task, length)) in received.parks {
            self.park(config, task, length, now);
        }
        for said in received.feedback {
            if self.window.closed(said.task, said.version) {
                self.repeats.remove(&said.task);
            }
            if let Some(due_at) = said.due_again {
                said.config.into_iter().for_each(|config| self.heads.lower(config, due_at));
            }
            if let Some(deadline) = said.awaits_until {
                self.next_deadline = Some(self.next_deadline.map_or(deadline, |known| known.min(deadline)));
            }
            let Some(config) = said.config else { continue };
            if let Some(length) = said.park {
                self.park(config, said.task, length, now);
            }
            let may_have_ended = said.due_again.is_none() && said.awaits_until.is_none();
            if may_have_ended && self.waiting.contains(&config) {
                self.recompute.insert(config);
            }
        }
    }

    /// Claims from every config that is due soon and has room. Claims are made ahead, in gulps of half
    /// the look-ahead, so that a steady stream costs a transaction now and then and not one a task.
    async fn claim(&mut self, now: Timestamp) -> Result<usize> {
        let (wants, ranks) = self.wants(now);
        if wants.is_empty() {
            return Ok(0);
        }
        let claimed = self.parts.store.claim(self.parts.owner, wants, now).await?;
        self.deposed |= claimed.deposed;
        for (config, head) in claimed.heads {
            self.heads.set(config, head);
        }
        let count = claimed.tasks.len() + claimed.bare.len();
        let whole = claimed.tasks.into_iter().map(Claim::whole);
        for claim in whole.chain(claimed.bare.into_iter().map(Claim::bare)) {
            let rank = ranks.get(&claim.row.config).copied().unwrap_or_default();
            self.window.add(claim, rank);
        }
        Ok(count)
    }

    /// What to claim, turn by turn (see [`crate::turns::Turns`]); a config that cannot be claimed from leaves
    /// the order.
    fn wants(&mut self, now: Timestamp) -> (Vec<Want>, HashMap<ConfigId, Rank>) {
        let due_by = now.plus(self.options.lookahead);
        let book = self.parts.book.clone();
        let rank = |id| book.config(id).map_or_else(Rank::default, |config| rank_of(&config));
        self.heads.ripen(now.plus(self.half_lookahead()), rank);
        let (mut wants, mut ranks, mut places) = (Vec::<Want>::new(), HashMap::new(), HashMap::new());
        let (mut planned, mut served) = (0, Vec::new());
        while wants.len() < CONFIGS_PER_CLAIM
            && let Some((id, rank)) = self.heads.next_due()
        {
            let place = match places.entry(id) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    if !self.may_claim(id, planned) {
                        continue;
                    }
                    ranks.insert(id, rank);
                    wants.push(Want { config: id, due_by, limit: 0 });
                    *place.insert(wants.len() - 1)
                }
            };
            let limit = &mut wants[place].limit;
            let most = self.window.room_for(id, planned - *limit).min(ROWS_PER_CONFIG_MAX);
            let more = most.saturating_sub(*limit).min(ROWS_PER_TURN);
            let enough = planned >= ROWS_PER_CLAIM && *limit > 0;
            if more == 0 || enough {
                served.push((id, rank));
                continue;
            }
            *limit += more;
            planned += more;
            self.heads.wait_again(id, rank);
        }
        for (id, rank) in served {
            self.heads.wait_again(id, rank);
        }
        (wants, ranks)
    }

    fn may_claim(&mut self, id: ConfigId, planned: usize) -> bool {
        match self.parts.book.config(id) {
            None => {
                self.heads.set(id, None);
                self.unknown.insert(id);
                false
            }
            Some(config) if !config.runnable() => {
                self.heads.block(id);
                false
            }
            Some(_) if self.window.room_for(id, planned) == 0 => {
                self.starve(id);
                false
            }
            Some(_) => true,
        }
    }

    async fn publish(&mut self, now: Timestamp) -> usize {
        if self.publish_at().is_none_or(|at| at > now) {
            return 0;
        }
        self.window.ripen(now);
        let queue = &self.parts.queue;
        let claims = self.window.take(self.parts.publisher.room(queue));
        if claims.is_empty() {
            return 0;
        }
        self.last_publish = now;
        let marks: Vec<_> = claims.iter().map(|claim| (claim.row, claim.bytes())).collect();
        let messages = claims
            .into_iter()
            .map(|Claim { row, task }| Message { id: row.id, version: row.version, row: task })
            .collect();
        let results = self.parts.publisher.publish(queue, messages).await;
        let (mut published, mut refused) = (0, Vec::new());
        for (result, (row, bytes)) in results.into_iter().zip(&marks) {
            match result {
                Ok(()) => {
                    let (config, version) = (row.config, row.version);
                    self.window.published(row.id, Published { config, version, at: now, bytes: *bytes });
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
        if !self.starved.is_empty() {
            for (row, _) in marks {
                self.feed(row.config, now);
            }
        }
        published
    }

    /// When rows are to be published next: at their time, but not more often than the tick; and at once
    /// when due rows wait and there is room.
    fn publish_at(&self) -> Option<Timestamp> {
        if self.window.has_turns() {
            return Some(Timestamp::ZERO);
        }
        let due_at = self.window.first_due()?;
        Some(due_at.max(self.last_publish.plus(self.options.publish_tick)))
    }

    fn half_lookahead(&self) -> Millis {
        Millis::from_ms(self.options.lookahead.ms() / 2)
    }

    fn plan_next(&self, now: Timestamp) -> (Timestamp, Turn) {
        let half = self.half_lookahead();
        let queue_full = self.window.has_turns();
        let publish = if queue_full { None } else { self.publish_at() };
        let head = self.heads.first().map(|head| head.minus(half));
        let next =
            [Some(self.resync_at), publish, head, self.next_fire(), self.next_deadline, self.parked.first()];
        let go_on = self.scan.as_ref().map(|_| now);
        let next = next.into_iter().flatten().chain(go_on).min().unwrap_or(self.resync_at).max(now);
        let wants_room = self.window.has_backlog() || !self.starved.is_empty() || !self.waiting.is_empty();
        (next, Turn { news_before: next.plus(half), wants_room })
    }
}

pub(crate) fn rank_of(config: &TaskConfig) -> Rank {
    Rank { priority: config.spec.priority, app: config.app_id }
}

/// A store error that the next turn may not meet again.
pub(crate) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown(_))
}
