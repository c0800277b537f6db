//! What finds everything that was lost: a crash, a message, a hint, an answer.

use std::collections::{BTreeSet, HashMap, HashSet};

use tsp_core::task::{Status, Task};
use tsp_core::{Millis, NodeId, TaskId, Timestamp};
use tsp_store::Result;
use tsp_store::schedule::InFlight;

use crate::fetcher::Fetcher;
use crate::window::Published;

/// Waits ended in one call.
const WAITS_PER_CALL: usize = 500;
/// When a wait whose time is over could not be ended.
const WAIT_AGAIN_AFTER: Millis = Millis::from_secs(1);
/// How long the auditor is told of configs that were held.
const HELD_REMEMBERED: Millis = Millis::from_mins(1);

impl Fetcher {
    /// Compares memory with the rows, and takes the rows' word. Returns how many rows were rescued.
    pub(crate) async fn resync(&mut self, now: Timestamp) -> Result<usize> {
        // A resync that fails is tried again in the next turn.
        let rescued = self.rescue(now).await?;
        let heads = self.parts.store.heads().await?;
        self.unknown.clear();
        self.heads.replace(heads.into_iter().map(|head| (head.config, head.due_at)));
        self.next_deadline = self.parts.store.next_deadline().await?;
        self.recheck_blocked(now);
        self.catch_up_schedules().await?;
        self.held.forget(now.minus(HELD_REMEMBERED));
        // Occurrences that wait are asked about here, should the feedback that they wait for be lost.
        self.recompute.extend(self.waiting.iter().copied());
        self.resync_at = now.plus(self.options.resync);
        self.losses.retain(|lost_at| lost_at.plus(self.options.lost_timeout) > now);
        self.resync_for_losses();
        Ok(rescued)
    }

    /// A part of the pipe was lost with what it held. Which messages these were the rows tell, once workers had
    /// time to begin the others.
    pub(crate) fn pipe_lost(&mut self, now: Timestamp) {
        self.losses.push(now);
        self.resync_for_losses();
    }

    fn resync_for_losses(&mut self) {
        if let Some(lost_at) = self.losses.first() {
            self.resync_at = self.resync_at.min(lost_at.plus(self.options.lost_timeout));
        }
    }

    /// Whether it was in the pipe when a part of that was lost, and was not heard of since.
    fn is_lost(&self, published: &Published, now: Timestamp) -> bool {
        let over = |lost_at: &&Timestamp| lost_at.plus(self.options.lost_timeout) <= now;
        self.losses.iter().rev().find(over).is_some_and(|lost_at| published.at <= *lost_at)
    }

    /// Ends the wait of tasks at 45 whose callee did not complete in time.
    pub(crate) async fn end_waits(&mut self, now: Timestamp) -> Result<()> {
        while self.next_deadline.is_some_and(|deadline| deadline <= now) {
            let unit = self.parts.entropy.unit();
            let ended = self.parts.store.end_waits(self.parts.owner, WAITS_PER_CALL, unit, now).await?;
            self.learn(&ended);
            self.next_deadline = self.parts.store.next_deadline().await?;
            if ended.is_empty() {
                // A row that cannot be ended, or rows that are not ours: no reason to turn in a circle.
                self.ask_whether_deposed(now).await?;
                let again = now.plus(WAIT_AGAIN_AFTER);
                self.next_deadline = self.next_deadline.map(|deadline| deadline.max(again));
            }
        }
        Ok(())
    }

    /// For writes that a former owner is not refused but finds without effect.
    async fn ask_whether_deposed(&mut self, now: Timestamp) -> Result<()> {
        let nothing = self.parts.store.claim(self.parts.owner, Vec::new(), now).await?;
        self.deposed |= nothing.deposed;
        Ok(())
    }

    async fn rescue(&mut self, now: Timestamp) -> Result<usize> {
        let in_flight = self.parts.store.in_flight().await?;
        let held: HashSet<(TaskId, i64)> = self.window.rows().collect();
        let pipe: HashMap<TaskId, Published> = self.window.in_pipe().collect();
        let (mut rearm, mut running) = (Vec::new(), Vec::new());
        for row in &in_flight {
            match row.status {
                Status::Queued if self.is_forgotten(row, &held, &pipe, now) => {
                    rearm.push((row.id, row.version));
                }
                Status::Executing => running.extend(row.node.map(|node| (row.id, node))),
                _ => {}
            }
        }
        let lose = self.of_dead_nodes(running).await?;
        let asked = rearm.len() + lose.len();
        let mut rescued = 0;
        if !rearm.is_empty() {
            let rows = self.parts.store.rearm(self.parts.owner, rearm, now).await?;
            rescued += rows.len();
            for row in &rows {
                if self.window.closed(row.id) {
                    *self.repeats.entry(row.id).or_default() += 1;
                }
            }
            self.learn(&rows);
        }
        if !lose.is_empty() {
            let rows = self.parts.store.lose(self.parts.owner, lose, now).await?;
            rescued += rows.len();
            self.learn(&rows);
        }
        if rescued == 0 && asked > 0 {
            self.ask_whether_deposed(now).await?;
        }
        if rescued > 0 {
            tracing::info!(rescued, "rows given back to the schedule");
        }
        self.forget_closed(&in_flight, &pipe);
        Ok(rescued)
    }

    /// A row at 10 that nobody will begin: of an epoch that is over, of ours and not in memory, or so
    /// long in the pipe that its message must be lost.
    fn is_forgotten(
        &self,
        row: &InFlight,
        held: &HashSet<(TaskId, i64)>,
        pipe: &HashMap<TaskId, Published>,
        now: Timestamp,
    ) -> bool {
        if row.epoch != self.parts.owner.epoch {
            return true;
        }
        match pipe.get(&row.id).filter(|published| published.version == row.version) {
            Some(published) => {
                let repeats = self.repeats.get(&row.id).copied().unwrap_or_default().min(6);
                let patience = self.options.pipe_timeout.saturating_mul(1 << repeats);
                published.at.plus(patience) <= now || self.is_lost(published, now)
            }
            None => !held.contains(&(row.id, row.version)),
        }
    }

    /// The rows were read first: a node that is dead now began nothing after that.
    async fn of_dead_nodes(&self, running: Vec<(TaskId, NodeId)>) -> Result<Vec<(TaskId, NodeId)>> {
        let nodes: BTreeSet<NodeId> = running.iter().map(|(_, node)| *node).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().filter(|node| *node != self.parts.owner.node).collect();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let dead = self.parts.store.dead_nodes(&nodes).await?;
        Ok(running.into_iter().filter(|(_, node)| dead.contains(node)).collect())
    }

    /// Feedback may be lost: what is in flight no more takes up no room.
    fn forget_closed(&mut self, in_flight: &[InFlight], pipe: &HashMap<TaskId, Published>) {
        let open: HashSet<TaskId> = in_flight.iter().map(|row| row.id).collect();
        let mut gone: Vec<TaskId> = pipe.keys().copied().filter(|id| !open.contains(id)).collect();
        // In a fixed order, so that one seed gives one history.
        gone.sort_unstable();
        for id in gone {
            self.window.closed(id);
            self.repeats.remove(&id);
        }
    }

    fn learn(&mut self, rows: &[Task]) {
        for row in rows.iter().filter(|row| row.status == Status::Scheduled) {
            self.heads.lower(row.config, row.due_at);
        }
    }
}
