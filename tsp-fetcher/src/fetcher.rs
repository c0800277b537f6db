//! One turn of the fetcher: news, schedules, deadlines, claims, publishing, and now and then a resync.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tsp_core::{ConfigId, Entropy, Millis, Name, TaskId, Timestamp};
use tsp_queue::{Inbox, Message, Publisher, Received, Turn};
use tsp_store::schedule::{Cursor, Owner, Want};
use tsp_store::{IdSource, Result, Store, StoreError};

use crate::heads::Heads;
use crate::turns::Rank;
use crate::window::{HeldConfigs, Published, Window, WindowLimits};

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
    pub window: WindowLimits,
}

impl Default for FetcherOptions {
    fn default() -> Self {
        Self {
            lookahead: Millis::from_secs(1),
            publish_tick: Millis::from_ms(3),
            resync: Millis::from_secs(5),
            pipe_timeout: Millis::from_secs(30),
            window: WindowLimits::default(),
        }
    }
}

/// What a fetcher works with.
#[derive(Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub publisher: Arc<dyn Publisher>,
    pub inbox: Arc<Inbox>,
    pub ids: IdSource,
    pub entropy: Arc<dyn Entropy>,
    pub owner: Owner,
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
    pub(crate) options: FetcherOptions,
    pub(crate) heads: Heads,
    pub(crate) window: Window,
    /// Configs that wait for a `Retry-After`, and until when.
    parked: BTreeSet<(Timestamp, ConfigId)>,
    /// Configs left out of the heads' order for want of room in the window.
    starved: HashSet<ConfigId>,
    pub(crate) cursors: HashMap<ConfigId, Cursor>,
    /// When each schedule is to be handled.
    pub(crate) fire_order: Heads,
    /// Cron configs whose cursor is to be computed again.
    pub(crate) recompute: BTreeSet<ConfigId>,
    /// Overlap `queue_one`: an occurrence waits for the open one to end.
    pub(crate) waiting: HashSet<ConfigId>,
    pub(crate) next_deadline: Option<Timestamp>,
    /// How often a task was sent again without an answer.
    pub(crate) repeats: HashMap<TaskId, u32>,
    pub(crate) resync_at: Timestamp,
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
            window: Window::new(options.window),
            parts,
            options,
            heads: Heads::default(),
            parked: BTreeSet::new(),
            starved: HashSet::new(),
            cursors: HashMap::new(),
            fire_order: Heads::default(),
            recompute: BTreeSet::new(),
            waiting: HashSet::new(),
            next_deadline: None,
            repeats: HashMap::new(),
            resync_at: Timestamp::ZERO,
            book_seq: -1,
            last_publish: Timestamp::ZERO,
            deposed: false,
        }
    }

    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.parts.inbox
    }

    pub fn held(&self) -> HeldConfigs {
        self.window.held()
    }

    /// One turn. On an error everything done before it stands, and the next turn goes on from there.
    pub async fn step(&mut self, now: Timestamp) -> Result<Report> {
        let received = self.parts.inbox.drain();
        self.take_in(received, now);
        let rescued = if now >= self.resync_at { self.resync(now).await? } else { 0 };
        self.unpark(now);
        let fired = self.fire_schedules(now).await?;
        self.end_waits(now).await?;
        let claimed = self.claim(now).await?;
        let published = self.publish(now).await;
        self.unstarve();
        let (next, turn) = self.plan_next(now);
        Ok(Report { claimed, published, fired, rescued, next, turn, deposed: self.deposed })
    }

    fn take_in(&mut self, received: Received, now: Timestamp) {
        for (config, due_at) in received.due {
            self.heads.lower(config, due_at);
        }
        for config in received.changed {
            self.config_changed(config);
        }
        for said in received.feedback {
            if self.window.closed(said.task) {
                self.repeats.remove(&said.task);
            }
            if let Some(due_at) = said.due_again {
                self.heads.lower(said.config, due_at);
            }
            if let Some(deadline) = said.awaits_until {
                self.next_deadline = Some(self.next_deadline.map_or(deadline, |known| known.min(deadline)));
            }
            if let Some(length) = said.park {
                self.heads.block(said.config);
                self.parked.insert((now.plus(length), said.config));
            }
            if self.waiting.contains(&said.config) {
                self.recompute.insert(said.config);
            }
        }
    }

    /// Hints may be lost: configs that were let go since they were blocked come back.
    pub(crate) fn recheck_blocked(&mut self) {
        for config in self.heads.blocked() {
            let parked = self.parked.iter().any(|(_, other)| *other == config);
            if !parked && !self.starved.contains(&config) {
                self.config_unblocked(config);
            }
        }
    }

    fn config_changed(&mut self, config: ConfigId) {
        let known = self.parts.store.book().config(config);
        match known {
            Some(config) if config.runnable() => self.heads.unblock(config.id),
            // Its rows wait; the change that lets them go says so.
            Some(config) => self.heads.block(config.id),
            None => self.heads.set(config, None),
        }
        self.recompute.insert(config);
    }

    fn unpark(&mut self, now: Timestamp) {
        while let Some((until, config)) = self.parked.first().copied() {
            if until > now {
                return;
            }
            self.parked.pop_first();
            if !self.parked.iter().any(|(_, other)| *other == config) {
                self.config_unblocked(config);
            }
        }
    }

    fn config_unblocked(&mut self, config: ConfigId) {
        if self.parts.store.book().config(config).is_none_or(|config| config.runnable()) {
            self.heads.unblock(config);
        }
    }

    /// Claims from every config that is due soon and has room. Claims are made ahead, in gulps of half
    /// the look-ahead, so that a steady stream costs a transaction now and then and not one a task.
    async fn claim(&mut self, now: Timestamp) -> Result<usize> {
        let soon = now.plus(Millis::from_ms(self.options.lookahead.ms() / 2));
        let due_by = now.plus(self.options.lookahead);
        let mut wants = Vec::new();
        let mut ranks = HashMap::new();
        for id in self.heads.due_by(soon) {
            let Some(config) = self.parts.store.book().config(id) else {
                self.heads.set(id, None);
                continue;
            };
            let limit = self.window.room_for(id);
            if !config.runnable() {
                self.heads.block(id);
            } else if limit == 0 {
                self.heads.block(id);
                self.starved.insert(id);
            } else {
                ranks.insert(id, Rank { priority: config.spec.priority, app: config.app_id });
                wants.push(Want { config: id, due_by, limit });
            }
        }
        if wants.is_empty() {
            return Ok(0);
        }
        wants.sort_by_key(|want| std::cmp::Reverse(ranks[&want.config].priority));
        let claimed = self.parts.store.claim(self.parts.owner, wants, now).await?;
        self.deposed |= claimed.deposed;
        for (config, head) in claimed.heads {
            self.heads.set(config, head);
        }
        let count = claimed.tasks.len();
        for task in claimed.tasks {
            let rank = ranks.get(&task.config).copied().unwrap_or_default();
            self.window.add(task, rank);
        }
        Ok(count)
    }

    async fn publish(&mut self, now: Timestamp) -> usize {
        if self.publish_at().is_none_or(|at| at > now) {
            return 0;
        }
        self.window.ripen(now);
        // Every queue but this one is refused at the API until workers name theirs.
        let queue = default_queue();
        let tasks = self.window.take(self.parts.publisher.room(&queue));
        if tasks.is_empty() {
            return 0;
        }
        self.last_publish = now;
        let configs: HashMap<_, _> = tasks.iter().map(|task| (task.id, task.config)).collect();
        let marks: Vec<_> = tasks.iter().map(|task| (task.id, task.config, task.version)).collect();
        let messages = tasks
            .into_iter()
            .map(|task| Message { id: task.id, version: task.version, row: Some(task) })
            .collect();
        let results = self.parts.publisher.publish(&queue, messages).await;
        let mut published = 0;
        for (result, (id, config, version)) in results.into_iter().zip(marks) {
            match result {
                Ok(()) => {
                    self.window.published(id, Published { config, version, at: now });
                    published += 1;
                }
                Err((message, error)) => {
                    tracing::debug!(task = %id, config = %configs[&id], %error, "not published");
                    if let Some(row) = message.row {
                        self.window.put_back(row);
                    }
                }
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

    /// Configs that were left out for want of room come back when they have it.
    fn unstarve(&mut self) {
        let fed: Vec<_> =
            self.starved.iter().copied().filter(|config| self.window.room_for(*config) > 0).collect();
        for config in fed {
            self.starved.remove(&config);
            if !self.parked.iter().any(|(_, parked)| *parked == config) {
                self.config_unblocked(config);
            }
        }
    }

    fn plan_next(&self, now: Timestamp) -> (Timestamp, Turn) {
        let half = Millis::from_ms(self.options.lookahead.ms() / 2);
        let queue_full = self.window.has_turns();
        let publish = if queue_full { None } else { self.publish_at() };
        let head = self.heads.first().map(|head| head.minus(half));
        let next = [
            Some(self.resync_at),
            publish,
            head,
            self.next_fire(),
            self.next_deadline,
            self.parked.first().map(|(until, _)| *until),
        ];
        let next = next.into_iter().flatten().min().unwrap_or(self.resync_at).max(now);
        let wants_room = self.window.has_backlog() || !self.starved.is_empty() || !self.waiting.is_empty();
        (next, Turn { news_before: next.plus(half), wants_room })
    }
}

pub(crate) fn default_queue() -> Name {
    Name::queue("default").unwrap_or_else(|_| unreachable!("`default` is a good name"))
}

/// A store error that the next turn may not meet again.
pub(crate) fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_))
}
