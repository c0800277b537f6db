//! What finds everything that was lost: a crash, a message, a hint, an answer.

use std::collections::BTreeSet;

use tsp_core::ids::{IdMap, IdSet};
use tsp_core::task::{Status, Task};
use tsp_core::{Millis, NodeId, TaskId, Timestamp};
use tsp_store::Result;
use tsp_store::fetching::{FlightMark, InFlight};

use crate::fetcher::Fetcher;
use crate::options::FetcherOptions;
use crate::window::{PublishedMessage, Window};

/// Rows in flight read in one call.
const ROWS_PER_PAGE: usize = 2_000;
/// Rows returned to scheduled in one transaction, and about so many in one turn, so that after a crash nobody
/// waits long behind them.
const RETURNED_PER_CALL: usize = 500;
const RETURNED_PER_TURN: usize = 2_000;
/// How long the auditor learns of configs that were held.
const HELD_REMEMBERED: Millis = Millis::from_mins(1);

/// A message that was lost or waits in the queue: its patience doubles so often.
const REPEATS_DOUBLED_MAX: u32 = 6;

/// What was lost, and is looked for.
#[derive(Debug)]
pub(crate) struct Rescue {
    options: FetcherOptions,
    /// How often a task was sent again without an answer.
    repeats: IdMap<TaskId, Repeats>,
    /// When parts of the pipe were lost, oldest first, as far as it was not made good.
    pipe_losses: Vec<Timestamp>,
    resync_at: Timestamp,
    /// A scan that is not at its end.
    scan: Option<Scan>,
}

/// How often a row returned to scheduled because its message was too long in the pipe, and when last.
#[derive(Debug, Clone, Copy)]
struct Repeats {
    count: u32,
    last: Timestamp,
}

/// A scan of what is in flight, as long as it takes.
#[derive(Debug)]
struct Scan {
    after: Option<FlightMark>,
    /// What was in the pipe when it began, as far as it was not met since.
    unmet: IdMap<TaskId, PublishedMessage>,
}

impl Rescue {
    /// The first turn reads the rows.
    pub(crate) fn new(options: FetcherOptions) -> Self {
        let (repeats, pipe_losses) = (IdMap::default(), Vec::new());
        Self { options, repeats, pipe_losses, resync_at: Timestamp::ZERO, scan: None }
    }

    /// Something may have happened without an event: the next turn reads the rows.
    pub(crate) fn look_again(&mut self) {
        self.resync_at = Timestamp::ZERO;
    }

    /// A part of the pipe was lost with what it held. Which messages these were the rows tell, once workers had
    /// time to begin the others.
    pub(crate) fn pipe_lost(&mut self, now: Timestamp) {
        self.pipe_losses.push(now);
        self.resync_for_losses();
    }

    /// The message of a task was dealt with.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.repeats.remove(&task);
    }

    pub(crate) const fn resync_at(&self) -> Timestamp {
        self.resync_at
    }

    pub(crate) const fn is_walking(&self) -> bool {
        self.scan.is_some()
    }

    #[cfg(test)]
    pub(crate) fn repeated(&self) -> usize {
        self.repeats.len()
    }

    /// Memory was compared with the rows.
    fn resynced(&mut self, window: &Window, now: Timestamp) {
        self.resync_at = now.plus(self.options.resync);
        self.pipe_losses.retain(|lost_at| lost_at.plus(self.options.lost_timeout) > now);
        self.resync_for_losses();
        // What was returned and is not in the pipe again was ended by somebody, or is another owner's.
        let patience = self.options.pipe_timeout;
        self.repeats.retain(|id, repeats| {
            window.message(*id).is_some() || repeats.last.plus(repeats.patience(patience)) > now
        });
    }

    fn resync_for_losses(&mut self) {
        if let Some(lost_at) = self.pipe_losses.first() {
            self.resync_at = self.resync_at.min(lost_at.plus(self.options.lost_timeout));
        }
    }

    /// Whether a message is so long in the pipe that it must be lost.
    fn is_lost(&self, task: TaskId, published: &PublishedMessage, now: Timestamp) -> bool {
        let timeout = self.options.pipe_timeout;
        let patience = self.repeats.get(&task).map_or(timeout, |repeats| repeats.patience(timeout));
        published.at.plus(patience) <= now || self.was_in_lost_part(published, now)
    }

    /// Whether it was in the pipe when a part of that was lost, without feedback since.
    fn was_in_lost_part(&self, published: &PublishedMessage, now: Timestamp) -> bool {
        let over = |lost_at: &&Timestamp| lost_at.plus(self.options.lost_timeout) <= now;
        self.pipe_losses.iter().rev().find(over).is_some_and(|lost_at| published.at <= *lost_at)
    }

    fn repeat(&mut self, task: TaskId, now: Timestamp) {
        let repeats = self.repeats.entry(task).or_insert(Repeats { count: 0, last: now });
        *repeats = Repeats { count: repeats.count + 1, last: now };
    }
}

impl Repeats {
    /// How long a message may be in the pipe whose row was returned so often before.
    fn patience(self, once: Millis) -> Millis {
        once.saturating_mul(1 << self.count.min(REPEATS_DOUBLED_MAX))
    }
}

impl Fetcher {
    /// Compares memory with the rows, and takes the rows' word. Returns how many rows were rescued.
    pub(crate) async fn resync(&mut self, now: Timestamp) -> Result<usize> {
        // A resync that fails is tried again in the next turn.
        let window = self.flow.window();
        self.rescue.scan.get_or_insert_with(|| Scan { after: None, unmet: window.in_pipe().collect() });
        let rescued = self.rescue_rows(now).await?;
        self.unknown.clear();
        self.read_parks(now).await?;
        let due_index = self.deps.store.earliest_due().await?;
        self.flow.due_are(due_index.into_iter().map(|earliest| (earliest.config, earliest.due_at)));
        self.deadlines.set(self.deps.store.next_deadline().await?);
        self.check_held(now);
        self.catch_up_schedules().await?;
        self.flow.holds().view().forget(now.minus(HELD_REMEMBERED));
        // Occurrences that wait are asked about here, should the feedback that they wait for be lost.
        self.schedules.recompute_waiting();
        self.rescue.resynced(self.flow.window(), now);
        Ok(rescued)
    }

    /// For writes that a former owner is not refused but finds without effect.
    pub(crate) async fn ask_whether_deposed(&mut self, now: Timestamp) -> Result<()> {
        let nothing = self.deps.store.claim(self.deps.owner, Vec::new(), now).await?;
        self.ownership.note(nothing.deposed);
        Ok(())
    }

    /// Goes on with the scan of what is in flight, if there is one. Returns how many rows were rescued.
    pub(crate) async fn rescue_rows(&mut self, now: Timestamp) -> Result<usize> {
        let Some(mut scan) = self.rescue.scan.take() else { return Ok(0) };
        let walked = self.scan_page(&mut scan, now).await;
        match &walked {
            Ok((_, true)) => self.forget_closed(scan.unmet),
            Ok((_, false)) => self.rescue.scan = Some(scan),
            // From its beginning.
            Err(_) => self.rescue.look_again(),
        }
        let (rescued, _) = walked?;
        if rescued > 0 {
            tracing::info!(rescued, "rows returned to scheduled");
        }
        Ok(rescued)
    }

    /// How many rows were rescued, and whether this was the end of the scan.
    async fn scan_page(&mut self, scan: &mut Scan, now: Timestamp) -> Result<(usize, bool)> {
        let held: IdSet<(TaskId, i64)> = self.flow.window().rows().collect();
        let mut rescued = 0;
        while rescued < RETURNED_PER_TURN {
            let page = self.deps.store.in_flight(scan.after, ROWS_PER_PAGE).await?;
            let (mut return_to_scheduled, mut running) = (Vec::new(), Vec::new());
            for row in &page.rows {
                scan.unmet.remove(&row.id);
                if row.status == Status::Queued {
                    // Whoever gets a message of a version that the row has left throws it away, perhaps
                    // without feedback: it takes up no room.
                    self.flow.closed(row.id, row.version - 1);
                }
                match row.status {
                    Status::Queued if self.is_forgotten(row, &held, now) => {
                        return_to_scheduled.push((row.id, row.version));
                    }
                    Status::Executing => running.extend(row.node.map(|node| (row.id, node))),
                    _ => {}
                }
            }
            let lost = self.of_dead_nodes(running).await?;
            let asked = !return_to_scheduled.is_empty() || !lost.is_empty();
            let returned = self.return_rows(&return_to_scheduled, &lost, now).await?;
            if asked && returned == 0 {
                self.ask_whether_deposed(now).await?;
            }
            rescued += returned;
            scan.after = page.next;
            if page.next.is_none() || self.ownership.is_over() {
                return Ok((rescued, true));
            }
        }
        Ok((rescued, false))
    }

    async fn return_rows(
        &mut self,
        return_to_scheduled: &[(TaskId, i64)],
        lost: &[(TaskId, NodeId)],
        now: Timestamp,
    ) -> Result<usize> {
        let (store, owner) = (self.deps.store.clone(), self.deps.owner);
        let mut returned = 0;
        for chunk in return_to_scheduled.chunks(RETURNED_PER_CALL) {
            let rows = store.return_to_scheduled(owner, chunk.to_vec(), now).await?;
            returned += rows.len();
            for row in &rows {
                if self.flow.closed(row.id, row.version) {
                    self.rescue.repeat(row.id, now);
                }
            }
            self.learn(&rows);
        }
        for chunk in lost.chunks(RETURNED_PER_CALL) {
            let rows = store.mark_worker_lost(owner, chunk.to_vec(), now).await?;
            returned += rows.len();
            self.learn(&rows);
        }
        Ok(returned)
    }

    /// A queued row that nobody will begin: of an epoch that is over, of ours and not in memory, or so
    /// long in the pipe that its message must be lost.
    fn is_forgotten(&self, row: &InFlight, held: &IdSet<(TaskId, i64)>, now: Timestamp) -> bool {
        if row.epoch != self.deps.owner.epoch {
            return true;
        }
        let message = self.flow.window().message(row.id);
        match message.filter(|published| published.version == row.version) {
            Some(published) => self.rescue.is_lost(row.id, &published, now),
            None => !held.contains(&(row.id, row.version)),
        }
    }

    /// The rows were read first: a node that is dead now began nothing after that.
    async fn of_dead_nodes(&self, running: Vec<(TaskId, NodeId)>) -> Result<Vec<(TaskId, NodeId)>> {
        let nodes: BTreeSet<NodeId> = running.iter().map(|(_, node)| *node).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| *node != self.deps.owner.node).collect();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let dead = self.deps.store.dead_nodes(&nodes).await?;
        Ok(running.into_iter().filter(|(_, node)| dead.contains(node)).collect())
    }

    /// Feedback may be lost: what is in flight no more takes up no room.
    fn forget_closed(&mut self, unmet: IdMap<TaskId, PublishedMessage>) {
        let as_then = |(id, published): &(TaskId, PublishedMessage)| {
            self.flow.window().message(*id) == Some(*published)
        };
        let mut gone: Vec<TaskId> = unmet.into_iter().filter(as_then).map(|(id, _)| id).collect();
        // In a fixed order, so that one seed gives one history.
        gone.sort_unstable();
        for id in gone {
            self.flow.closed(id, i64::MAX);
            self.rescue.forget(id);
        }
    }

    /// These rows have changed.
    pub(crate) fn learn(&mut self, rows: &[Task]) {
        for row in rows.iter().filter(|row| row.status == Status::Scheduled) {
            self.flow.due(row.config, row.due_at);
        }
    }
}
