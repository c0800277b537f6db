//! Claimed rows: those that wait for their time or for room, and those in the pipe.
//!
//! The rule behind the numbers: no more goes into the pipe than workers can start soon, and a config
//! whose receiver is slow holds its own rows here and nobody else's.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tsp_core::ids::IdMap;
use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::fetching::BareRow;

use crate::totals::{Share, WindowTotals};
use crate::turns::{Rank, Turns};

/// How many rows of one config go in one turn before the next config's.
const QUANTUM: usize = 64;
/// What each config may hold however many others hold rows, too.
const ROWS_AT_LEAST: usize = 16;

#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    /// Published and not yet dealt with, of one config.
    pub in_pipe_per_config: usize,
    /// Claimed and not published, of one config.
    pub claimed_per_config: usize,
    /// Due and not published, of one config, above which nothing more of it is claimed.
    pub backlog_per_config: usize,
    /// Claimed and not published, of all configs of the process; above it each may still hold a few.
    pub claimed: usize,
    /// What the rows of one config carry, from their claim until they are dealt with. Beyond it they are kept
    /// without, and whoever begins them reads them again.
    pub bytes_per_config: usize,
    /// The same of all configs of the process.
    pub bytes: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            in_pipe_per_config: 512,
            claimed_per_config: 8_192,
            backlog_per_config: 256,
            claimed: 65_536,
            bytes_per_config: 16 << 20,
            bytes: 64 << 20,
        }
    }
}

/// A claimed row.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) row: BareRow,
    /// With all it carries, if there is room for that.
    pub(crate) task: Option<Box<Task>>,
}

impl Claim {
    pub(crate) fn whole(task: Box<Task>) -> Self {
        Self { row: BareRow::from(&*task), task: Some(task) }
    }

    pub(crate) const fn bare(row: BareRow) -> Self {
        Self { row, task: None }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.task.as_ref().map_or(0, |task| task.bytes())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Window {
    limits: WindowLimits,
    waiting: BTreeMap<(Timestamp, TaskId), Claim>,
    queues: IdMap<ConfigId, ConfigQueue>,
    /// Configs with due rows and room in the pipe.
    turns: Turns,
    published: IdMap<TaskId, PublishedMessage>,
    /// The rows in `waiting` and `ready`, and what these and the published ones carry.
    share: Share,
}

#[derive(Debug, Default)]
struct ConfigQueue {
    rank: Rank,
    /// Rows in `waiting`.
    waiting: usize,
    /// Due rows, oldest first.
    ready: VecDeque<Claim>,
    in_pipe: usize,
    /// Of its rows here and in the pipe.
    bytes: usize,
}

/// A message in the pipe or at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishedMessage {
    pub(crate) config: ConfigId,
    pub(crate) version: i64,
    pub(crate) at: Timestamp,
    /// What it carries.
    pub(crate) bytes: usize,
}

impl Window {
    pub(crate) fn new(limits: WindowLimits, totals: Arc<WindowTotals>) -> Self {
        Self { limits, share: Share::of(totals), ..Self::default() }
    }

    /// How many rows of `config` may be claimed now, when `planned` rows of others will be as well.
    pub(crate) fn room_for(&self, config: ConfigId, planned: usize) -> usize {
        let queue = self.queues.get(&config);
        let rows = queue.map_or(0, |queue| queue.waiting + queue.ready.len());
        if queue.is_some_and(|queue| queue.ready.len() >= self.limits.backlog_per_config) {
            return 0;
        }
        let own = self.limits.claimed_per_config.saturating_sub(rows);
        let in_all = self.limits.claimed.saturating_sub(self.share.of_all().rows() + planned);
        own.min(in_all.max(ROWS_AT_LEAST.saturating_sub(rows)))
    }

    pub(crate) fn add(&mut self, mut claim: Claim, rank: Rank) {
        let config = claim.row.config;
        let queue = self.queues.entry(config).or_default();
        queue.rank = rank;
        let bytes = claim.bytes();
        if queue.bytes + bytes > self.limits.bytes_per_config
            || self.share.of_all().bytes() + bytes > self.limits.bytes
        {
            claim.task = None;
        }
        let bytes = claim.bytes();
        // A row that was taken elsewhere and claimed again for the same time replaces its old copy.
        let replaced = self.waiting.insert((claim.row.due_at, claim.row.id), claim);
        if replaced.is_none() {
            queue.waiting += 1;
            self.share.add(1, 0);
        }
        queue.bytes += bytes;
        self.share.add(0, bytes);
        self.drop_bytes(config, replaced.map_or(0, |replaced| replaced.bytes()));
    }

    pub(crate) fn configs(&self) -> impl Iterator<Item = ConfigId> + '_ {
        self.queues.keys().copied()
    }

    /// Its due rows stay here.
    pub(crate) fn leave_turns(&mut self, config: ConfigId) {
        self.turns.remove(config);
    }

    /// If it has due rows and room in the pipe.
    pub(crate) fn enter_turns(&mut self, config: ConfigId) {
        let Some(queue) = self.queues.get(&config) else { return };
        if !queue.ready.is_empty() && queue.in_pipe < self.limits.in_pipe_per_config {
            self.turns.push(config, queue.rank);
        }
    }

    /// The first due time of a row that waits for it.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|((due_at, _), _)| *due_at)
    }

    /// Whether due rows could go into the pipe if it had room.
    pub(crate) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether any due row is held back.
    pub(crate) fn has_backlog(&self) -> bool {
        self.share.rows() > self.waiting.len()
    }

    /// Moves rows whose time has come behind the others of their config, which takes turns if it `may`.
    pub(crate) fn ripen(&mut self, now: Timestamp, may: impl Fn(ConfigId) -> bool) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let claim = entry.remove();
            let config = claim.row.config;
            if let Some(queue) = self.queues.get_mut(&config) {
                queue.waiting -= 1;
                queue.ready.push_back(claim);
            }
            if may(config) {
                self.enter_turns(config);
            }
        }
    }

    /// The next rows to publish, at most `room`, in fair order (see [`Turns`]).
    pub(crate) fn take(&mut self, room: usize) -> Vec<Claim> {
        let mut taken = Vec::new();
        while taken.len() < room {
            let Some((config, _)) = self.turns.pop() else { break };
            let Some(queue) = self.queues.get_mut(&config) else { continue };
            let free = self.limits.in_pipe_per_config.saturating_sub(queue.in_pipe);
            let count = free.min(QUANTUM).min(room - taken.len()).min(queue.ready.len());
            taken.extend(queue.ready.drain(..count));
            self.share.take(count, 0);
            // Counted at once, so that the next turn of this config sees it.
            queue.in_pipe += count;
            self.enter_turns(config);
        }
        taken
    }

    /// What [`Window::take`] gave is in the pipe.
    pub(crate) fn published(&mut self, task: TaskId, published: PublishedMessage) {
        // A task published again replaces its old message, which counts no more.
        if let Some(old) = self.published.insert(task, published) {
            self.leave_pipe(old.config, old.bytes);
            self.enter_turns(old.config);
        }
    }

    /// What [`Window::take`] gave did not fit. Several come back last first.
    pub(crate) fn put_back(&mut self, claim: Claim) {
        let config = claim.row.config;
        self.queues.entry(config).or_default().ready.push_front(claim);
        self.share.add(1, 0);
        // It carries what it carried.
        self.leave_pipe(config, 0);
        self.enter_turns(config);
    }

    /// Messages of this version of a row, and of earlier ones, were dealt with. Whose it was, if one was ours.
    pub(crate) fn closed(&mut self, task: TaskId, version: i64) -> Option<ConfigId> {
        let Entry::Occupied(entry) = self.published.entry(task) else { return None };
        if entry.get().version > version {
            return None;
        }
        let PublishedMessage { config, bytes, .. } = entry.remove();
        self.leave_pipe(config, bytes);
        Some(config)
    }

    /// What is known of a task in the pipe.
    pub(crate) fn message(&self, task: TaskId) -> Option<PublishedMessage> {
        self.published.get(&task).copied()
    }

    pub(crate) fn in_pipe(&self) -> impl Iterator<Item = (TaskId, PublishedMessage)> + '_ {
        self.published.iter().map(|(task, published)| (*task, *published))
    }

    /// Ids and versions of the rows in the window.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (TaskId, i64)> + '_ {
        let ready = self.queues.values().flat_map(|queue| queue.ready.iter());
        self.waiting.values().chain(ready).map(|claim| (claim.row.id, claim.row.version))
    }

    fn drop_bytes(&mut self, config: ConfigId, bytes: usize) {
        if let Some(queue) = self.queues.get_mut(&config) {
            queue.bytes -= bytes;
        }
        self.share.take(0, bytes);
    }

    fn leave_pipe(&mut self, config: ConfigId, bytes: usize) {
        self.drop_bytes(config, bytes);
        if let Some(queue) = self.queues.get_mut(&config) {
            queue.in_pipe = queue.in_pipe.saturating_sub(1);
            if queue.in_pipe == 0 && queue.waiting == 0 && queue.ready.is_empty() {
                self.queues.remove(&config);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::AppId;
    use tsp_core::task::{NewTask, Origin};

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000);

    fn task(config: i64, id: i64, due_ms: i64) -> Claim {
        carrying(config, id, due_ms, 0)
    }

    fn carrying(config: i64, id: i64, due_ms: i64, bytes: usize) -> Claim {
        let new = NewTask {
            id: TaskId::new(id),
            config: ConfigId::new(config),
            key: None,
            execute_at: Timestamp::from_ms(due_ms),
            payload: Some(vec![b' '; bytes].into()),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        Claim::whole(Box::new(Task::new(new, Timestamp::ZERO)))
    }

    fn rank(priority: u8) -> Rank {
        Rank { priority, app: AppId::new(1) }
    }

    fn ids(claims: &[Claim]) -> Vec<i64> {
        claims.iter().map(|claim| claim.row.id.get()).collect()
    }

    fn publish(window: &mut Window, room: usize) -> Vec<i64> {
        let taken = window.take(room);
        for claim in &taken {
            let BareRow { id, config, version, .. } = claim.row;
            window.published(id, PublishedMessage { config, version, at: NOW, bytes: claim.bytes() });
        }
        ids(&taken)
    }

    #[test]
    fn gives_what_is_due_in_order_and_within_the_cap() {
        let limits = WindowLimits { in_pipe_per_config: 2, ..WindowLimits::default() };
        let mut window = Window::new(limits, Arc::default());
        for (id, due) in [(3, 900), (1, 800), (2, 950), (4, 2_000)] {
            window.add(task(1, id, due), rank(2));
        }
        window.ripen(NOW, |_| true);
        assert_eq!(publish(&mut window, 10), [1, 3]);
        assert!(publish(&mut window, 10).is_empty(), "two are in the pipe");
        assert_eq!(window.closed(TaskId::new(1), 1), Some(ConfigId::new(1)));
        assert!(publish(&mut window, 10).is_empty(), "who is held does not come back by that");
        window.enter_turns(ConfigId::new(1));
        assert_eq!(publish(&mut window, 10), [2]);
        assert_eq!(window.first_due(), Some(Timestamp::from_ms(2_000)));
    }

    #[test]
    fn higher_priorities_first_and_configs_take_turns() {
        let mut window = Window::new(WindowLimits::default(), Arc::default());
        for n in 0..100 {
            window.add(task(1, n, 500), rank(2));
        }
        window.add(task(2, 200, 600), rank(2));
        window.add(task(3, 300, 700), rank(4));
        window.ripen(NOW, |_| true);
        let first = publish(&mut window, 80);
        assert_eq!(first[0], 300);
        assert!(first.contains(&200), "config 2 is served after one quantum of config 1");
    }

    #[test]
    fn a_backlog_stops_claims_and_what_does_not_fit_comes_back() {
        let limits = WindowLimits { backlog_per_config: 2, ..WindowLimits::default() };
        let mut window = Window::new(limits, Arc::default());
        let config = ConfigId::new(1);
        window.add(task(1, 1, 500), rank(2));
        window.add(task(1, 2, 500), rank(2));
        window.ripen(NOW, |_| true);
        assert_eq!(window.room_for(config, 0), 0);
        let mut taken = window.take(10);
        assert_eq!(window.room_for(config, 0), WindowLimits::default().claimed_per_config);
        while let Some(last) = taken.pop() {
            window.put_back(last);
        }
        assert_eq!(publish(&mut window, 10), [1, 2], "oldest first, as before");
    }

    #[test]
    fn what_comes_back_keeps_its_rank() {
        let mut window = Window::new(WindowLimits::default(), Arc::default());
        window.add(task(1, 1, 500), rank(4));
        window.add(task(2, 2, 500), rank(2));
        window.ripen(NOW, |_| true);
        let first = window.take(1).pop().unwrap();
        assert_eq!(first.row.id, TaskId::new(1));
        window.put_back(first);
        assert_eq!(publish(&mut window, 10), [1, 2]);
    }

    #[test]
    fn a_row_claimed_again_counts_once() {
        let mut window = Window::new(WindowLimits::default(), Arc::default());
        window.add(task(1, 1, 500), rank(2));
        window.add(task(1, 1, 500), rank(2));
        window.ripen(NOW, |_| true);
        assert_eq!(publish(&mut window, 10), [1]);
        assert!(!window.has_backlog(), "nothing is left");
        assert!(window.closed(TaskId::new(1), 1).is_some());
        assert!(window.queues.is_empty(), "an idle config takes up no memory");
    }

    #[test]
    fn a_message_that_is_replaced_makes_room_for_another_one() {
        let limits = WindowLimits { in_pipe_per_config: 2, ..WindowLimits::default() };
        let mut window = Window::new(limits, Arc::default());
        for id in [1, 2] {
            window.add(task(1, id, 500), rank(2));
        }
        window.ripen(NOW, |_| true);
        assert_eq!(publish(&mut window, 10), [1, 2]);
        assert!(window.closed(TaskId::new(2), 1).is_some());
        // An operator has changed the first one, whose message is in the pipe.
        window.add(task(1, 1, 600), rank(2));
        window.add(task(1, 3, 700), rank(2));
        window.ripen(NOW, |_| true);
        assert_eq!(publish(&mut window, 10), [1]);
        assert_eq!(publish(&mut window, 10), [3], "one of the two is in the pipe once");
    }

    #[test]
    fn the_bound_of_all_counts_what_is_planned_and_leaves_each_a_few() {
        let limits = WindowLimits { claimed: 100, claimed_per_config: 80, ..WindowLimits::default() };
        let totals = Arc::new(WindowTotals::default());
        let mut window = Window::new(limits, totals.clone());
        let (busy, other) = (ConfigId::new(1), ConfigId::new(2));
        assert_eq!(window.room_for(busy, 0), 80);
        assert_eq!(window.room_for(other, 30), 70);
        assert_eq!(window.room_for(other, 90), ROWS_AT_LEAST, "each may hold a few");
        for id in 0..100 {
            window.add(task(1, id, 2_000), rank(2));
        }
        assert_eq!(window.room_for(busy, 0), 0);
        assert_eq!(window.room_for(other, 0), ROWS_AT_LEAST);
        window.add(task(2, 200, 2_000), rank(2));
        assert_eq!(window.room_for(other, 0), ROWS_AT_LEAST - 1);

        let neighbour = Window::new(limits, totals.clone());
        assert_eq!(neighbour.room_for(other, 0), ROWS_AT_LEAST, "the bound is that of the process");
        drop(window);
        assert_eq!((totals.rows(), totals.bytes()), (0, 0));
        assert_eq!(neighbour.room_for(other, 0), 80);
    }

    #[test]
    fn rows_beyond_the_bytes_are_kept_without_what_they_carry() {
        let one = carrying(1, 1, 500, 10_000).bytes();
        let limits = WindowLimits { bytes_per_config: 3 * one, bytes: 4 * one, ..WindowLimits::default() };
        let totals = Arc::new(WindowTotals::default());
        let mut window = Window::new(limits, totals.clone());
        for id in 0..5 {
            window.add(carrying(1, id, 500, 10_000), rank(2));
            window.add(carrying(2, 10 + id, 500, 10_000), rank(2));
        }
        assert_eq!(totals.bytes(), 4 * one);
        window.add(carrying(1, 0, 500, 10_000), rank(2));
        window.ripen(NOW, |_| true);
        assert_eq!(totals.bytes(), 3 * one, "a row claimed again counts once");
        let mut taken = window.take(100);
        assert_eq!(taken.len(), 10, "all of them go out");
        assert_eq!(taken.iter().filter(|claim| claim.task.is_some()).count(), 3);
        window.put_back(taken.pop().unwrap());
        for claim in &taken {
            let BareRow { id, config, version, .. } = claim.row;
            window.published(id, PublishedMessage { config, version, at: NOW, bytes: claim.bytes() });
        }
        assert_eq!(publish(&mut window, 10).len(), 1);
        assert_eq!(totals.bytes(), 3 * one, "what is in the pipe counts until it is dealt with");
        for id in (0..5).chain(10..15) {
            assert!(window.closed(TaskId::new(id), 1).is_some());
        }
        assert_eq!((totals.rows(), totals.bytes()), (0, 0));
        window.add(carrying(1, 1, 500, 10_000), rank(2));
        assert_eq!(totals.bytes(), one);
    }

    #[test]
    fn a_config_that_may_not_take_turns_keeps_its_rows_and_only_its_own() {
        let mut window = Window::new(WindowLimits::default(), Arc::default());
        let held = ConfigId::new(1);
        window.add(task(1, 1, 500), rank(2));
        window.add(task(2, 2, 500), rank(2));
        window.ripen(NOW, |config| config != held);
        assert_eq!(publish(&mut window, 10), [2]);
        assert!(!window.has_turns() && window.has_backlog());
        window.enter_turns(held);
        window.leave_turns(held);
        assert!(!window.has_turns());
        window.enter_turns(held);
        assert_eq!(publish(&mut window, 10), [1]);
    }
}
