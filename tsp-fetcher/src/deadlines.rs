//! Tasks that somebody else completes: those that wait longer than they may are ended.

use tsp_core::{Millis, Timestamp};
use tsp_store::Result;

use crate::fetcher::Fetcher;

/// Waits ended in one call, and calls in one turn; the rest goes in the next turn, which follows at once.
const WAITS_PER_CALL: usize = 500;
const CALLS_PER_TURN: usize = 4;
/// When a wait whose deadline has passed could not be ended.
const WAIT_AGAIN_AFTER: Millis = Millis::from_secs(1);

/// The earliest deadline of a task that waits.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    next: Option<Timestamp>,
}

impl Deadlines {
    pub(crate) const fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// There is one at `deadline`, perhaps not the earliest.
    pub(crate) fn lower(&mut self, deadline: Timestamp) {
        self.next = Some(self.next.map_or(deadline, |known| known.min(deadline)));
    }

    /// The earliest, as the rows say.
    pub(crate) fn set(&mut self, next: Option<Timestamp>) {
        self.next = next;
    }

    fn has_passed(&self, now: Timestamp) -> bool {
        self.next.is_some_and(|deadline| deadline <= now)
    }

    /// What has passed could not be ended.
    fn wait_until(&mut self, again: Timestamp) {
        self.next = self.next.map(|deadline| deadline.max(again));
    }
}

impl Fetcher {
    /// Ends the wait of tasks whose receiver did not complete them in time.
    pub(crate) async fn end_waits(&mut self, now: Timestamp) -> Result<()> {
        for _ in 0..CALLS_PER_TURN {
            if !self.deadlines.has_passed(now) {
                break;
            }
            let jitter_fraction = self.deps.entropy.jitter_fraction();
            let ended =
                self.deps.store.end_waits(self.deps.owner, WAITS_PER_CALL, jitter_fraction, now).await?;
            self.learn(&ended);
            self.deadlines.set(self.deps.store.next_deadline().await?);
            if ended.is_empty() {
                // A row that cannot be ended, or rows that are not ours: no reason to busy-loop.
                self.ask_whether_deposed(now).await?;
                self.deadlines.wait_until(now.plus(WAIT_AGAIN_AFTER));
            }
        }
        Ok(())
    }
}
