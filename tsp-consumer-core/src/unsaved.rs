//! Outcomes that wait to be saved, of one bulkhead.
//!
//! What failed is tried again in smaller batches, so that one row or outcome that cannot be saved is found, alone,
//! after a few tries, and its neighbours are saved without it. The attempt stays this worker's as long as it lives:
//! its outcome is not lost, and it is not called again.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::{EndedAttempt, SaveFailure};

/// An outcome that failed so often goes alone.
const ALONE_AFTER: u32 = 4;
/// The first pause after a failure; doubled with each more.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long an outcome that is refused alone waits, doubled with each try.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
const REFUSED_PAUSE_MAX: Duration = Duration::from_mins(1);
/// A save that takes longer is one that stands still.
const STILL_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct UnsavedAttempts {
    fresh: Vec<EndedAttempt>,
    /// When the oldest of the fresh ones came.
    since: Option<Instant>,
    failed: Vec<FailedSave>,
    /// A save is in flight since then.
    saving: Option<Instant>,
    pause_until: Option<Instant>,
    /// Calls that failed one after another because the rows were unavailable.
    away: u32,
    saved_at: Option<Instant>,
}

#[derive(Debug)]
struct FailedSave {
    executed: EndedAttempt,
    tries: u32,
    first: Instant,
    again_at: Instant,
    away: bool,
}

/// What is tried at once: outcomes that failed equally often.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) outcomes: Vec<EndedAttempt>,
    tries: u32,
    first: Option<Instant>,
}

impl UnsavedAttempts {
    pub(crate) fn push(&mut self, executed: EndedAttempt, now: Instant) {
        self.fresh.push(executed);
        self.since.get_or_insert(now);
    }

    pub(crate) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.failed.is_empty() && self.saving.is_none()
    }

    /// Whether another outcome changes anything: not during a save, unless it stands still and they are counted.
    pub(crate) fn takes_more(&self, now: Instant) -> bool {
        self.saving.is_none_or(|since| since + STILL_AFTER <= now)
    }

    /// How many wait because saving them fails or stands still.
    pub(crate) fn stuck(&self, now: Instant) -> usize {
        let still = self.saving.is_some_and(|since| since + STILL_AFTER <= now);
        let fresh = if still || self.away > 0 { self.fresh.len() } else { 0 };
        self.failed.len() + fresh
    }

    /// What is to be saved now, at most `max`. Fresh outcomes wait for company until they are `wait` old, unless
    /// there are enough.
    pub(crate) fn next(&mut self, now: Instant, wait: Duration, enough: bool, max: usize) -> Option<Batch> {
        if self.saving.is_some() || self.pause_until.is_some_and(|until| until > now) {
            return None;
        }
        let batch = self.again(now, max).or_else(|| {
            let since = self.since.filter(|since| enough || *since + wait <= now)?;
            let rest = self.fresh.split_off(self.fresh.len().min(max));
            let outcomes = std::mem::replace(&mut self.fresh, rest);
            self.since = (!self.fresh.is_empty()).then_some(since);
            Some(Batch { outcomes, tries: 0, first: None })
        })?;
        self.saving = Some(now);
        Some(batch)
    }

    /// The one that failed first, and those that failed as often as it.
    fn again(&mut self, now: Instant, max: usize) -> Option<Batch> {
        let due = self.failed.iter().filter(|failed| failed.again_at <= now);
        let (tries, first) = due.min_by_key(|failed| failed.again_at).map(|next| (next.tries, next.first))?;
        let mut room = if tries < ALONE_AFTER { (max >> (2 * tries)).max(1) } else { 1 };
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.failed).into_iter().partition(|failed| {
                let wanted = room > 0 && failed.tries == tries && failed.again_at <= now;
                room -= usize::from(wanted);
                wanted
            });
        self.failed = left;
        let outcomes = taken.into_iter().map(|failed| failed.executed).collect();
        Some(Batch { outcomes, tries, first: Some(first) })
    }

    /// What became of a batch. One that was refused alone is logged, and once others are saved it is clear
    /// that it is the outcome's own text or its row: the text is left out from then on.
    pub(crate) fn answered(&mut self, batch: &SaveBatch, failures: Vec<SaveFailure>, now: Instant) {
        self.saving = None;
        // Those that came meanwhile could not go before: their wait begins now, or batches would be small for nothing.
        self.since = self.since.map(|_| now);
        if failures.len() < batch.size {
            self.saved_at = Some(now);
            self.away = 0;
            self.pause_until = None;
            for failed in self.failed.iter_mut().filter(|failed| failed.away) {
                failed.tries = failed.tries.saturating_sub(1);
            }
        }
        let tries = batch.tries + 1;
        let first = batch.first.unwrap_or(now);
        let mut paused = false;
        for SaveFailure { mut executed, error } in failures {
            let away = error.is_transient();
            if away && !paused {
                paused = true;
                self.pause_until = Some(now + doubled(PAUSE, self.away, PAUSE_MAX));
                self.away += 1;
            }
            let again_at = match tries.checked_sub(ALONE_AFTER + 1) {
                Some(alone) if !away => now + doubled(REFUSED_PAUSE, alone, REFUSED_PAUSE_MAX),
                _ => now,
            };
            if !away && tries > ALONE_AFTER && self.saved_at.is_some_and(|at| at > first) {
                executed.verdict.excerpt = None;
                executed.verdict.reason = "outcome_refused".into();
            }
            self.failed.push(FailedSave { executed, tries, first, again_at, away });
        }
    }

    /// When after `now` [`UnsavedAttempts::next`] may have something or [`UnsavedAttempts::stuck`] more, if nothing more comes.
    pub(crate) fn next_at(&self, wait: Duration, now: Instant) -> Option<Instant> {
        if let Some(since) = self.saving {
            // From then on only its answer changes anything.
            return Some(since + STILL_AFTER).filter(|at| *at > now);
        }
        let failed = self.failed.iter().map(|failed| failed.again_at).min();
        let fresh = self.since.map(|since| since + wait);
        let next = failed.into_iter().chain(fresh).min()?;
        Some(self.pause_until.map_or(next, |until| until.max(next)))
    }

    /// Whatever waits is tried once more, now.
    pub(crate) fn last_call(&mut self, now: Instant) {
        self.pause_until = None;
        for failed in &mut self.failed {
            failed.again_at = now;
        }
    }
}

/// A batch while it is saved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SaveBatch {
    size: usize,
    tries: u32,
    first: Option<Instant>,
}

impl Batch {
    pub(crate) fn tried(&self) -> SaveBatch {
        SaveBatch { size: self.outcomes.len(), tries: self.tries, first: self.first }
    }
}

fn doubled(pause: Duration, times: u32, most: Duration) -> Duration {
    pause.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use tsp_core::outcome::Verdict;
    use tsp_core::task::{NewTask, Origin, Task};
    use tsp_core::work::WorkError;
    use tsp_core::{ConfigId, TaskId, Timestamp};
    use tsp_queue::Ticket;

    use super::*;

    const MAX: usize = 256;

    fn outcome(id: i64) -> EndedAttempt {
        let new = NewTask {
            id: TaskId::new(id),
            config: ConfigId::new(1),
            key: None,
            execute_at: Timestamp::ZERO,
            payload: None,
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        EndedAttempt {
            ended_at: Timestamp::ZERO,
            task: Box::new(Task::new(new, Timestamp::ZERO)),
            ticket: Ticket(id.unsigned_abs()),
            verdict: Verdict { excerpt: Some("text".into()), ..Verdict::retry("why") },
        }
    }

    fn waiting(count: i64, now: Instant) -> UnsavedAttempts {
        let mut unsaved = UnsavedAttempts::default();
        (1..=count).for_each(|id| unsaved.push(outcome(id), now));
        unsaved
    }

    /// Saves what is due until nothing is; the call with outcome `bad` is answered by `error`. How many calls.
    fn save_all(unsaved: &mut UnsavedAttempts, bad: i64, error: &WorkError, now: Instant) -> usize {
        let mut calls = 0;
        while let Some(batch) = unsaved.next(now, Duration::ZERO, true, MAX) {
            calls += 1;
            let tried = batch.tried();
            let fails = batch.outcomes.iter().any(|executed| executed.task.id.get() == bad);
            let failed = if fails { batch.outcomes } else { Vec::new() };
            let failed = failed.into_iter().map(|executed| SaveFailure { executed, error: error.clone() });
            unsaved.answered(&tried, failed.collect(), now);
        }
        calls
    }

    #[tokio::test]
    async fn during_a_save_nothing_more_is_taken_until_it_stands_still() {
        let now = Instant::now();
        let mut unsaved = waiting(1, now);
        assert!(unsaved.takes_more(now));
        let batch = unsaved.next(now, Duration::ZERO, true, MAX).expect("it is due");
        assert!(!unsaved.takes_more(now));
        let still_at = unsaved.next_at(Duration::ZERO, now).expect("the loop looks again");
        assert!(unsaved.takes_more(still_at));
        unsaved.answered(&batch.tried(), Vec::new(), now);
        assert!(unsaved.takes_more(now));
    }

    #[tokio::test]
    async fn one_that_is_refused_is_alone_after_a_few_calls_and_then_waits_longer_and_longer() {
        let refused = WorkError::Refused("too long".to_owned());
        let mut now = Instant::now();
        let mut unsaved = waiting(256, now);
        let calls = save_all(&mut unsaved, 7, &refused, now);
        assert_eq!((calls, unsaved.stuck(now)), (17, 1));
        for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            let next = unsaved.next_at(Duration::ZERO, now).expect("it is not given up");
            assert_eq!(next - now, pause);
            unsaved.push(outcome(1_000), now);
            assert_eq!(save_all(&mut unsaved, 7, &refused, now), 1, "others are saved at once");
            now = next;
            assert_eq!(save_all(&mut unsaved, 7, &refused, now), 1);
        }
        let batch = unsaved.next(now + REFUSED_PAUSE_MAX, Duration::ZERO, true, MAX).expect("it is tried");
        let verdict = &batch.outcomes[0].verdict;
        assert_eq!((verdict.outcome, &*verdict.reason), (Verdict::retry("").outcome, "outcome_refused"));
        assert_eq!(verdict.excerpt, None, "others were saved since: it is this one's text, or its row");
    }

    #[tokio::test]
    async fn while_the_rows_are_away_nothing_loses_its_text_and_all_wait() {
        let away = WorkError::Unavailable("gone".to_owned());
        let mut now = Instant::now();
        let mut unsaved = waiting(1, now);
        for pause in [100, 200, 400, 800, 1_600, 2_000, 2_000].map(Duration::from_millis) {
            assert_eq!(save_all(&mut unsaved, 1, &away, now), 1, "one call, and then the pause");
            unsaved.push(outcome(2), now);
            assert!(unsaved.next(now, Duration::ZERO, true, MAX).is_none(), "for the others, too");
            assert_eq!(unsaved.stuck(now), 2);
            let next = unsaved.next_at(Duration::ZERO, now).expect("it is tried again");
            assert_eq!(next - now, pause);
            now = next;
            unsaved.fresh.clear();
            unsaved.since = None;
        }
        let batch = unsaved.next(now, Duration::ZERO, true, MAX).expect("it is tried again");
        assert_eq!(&*batch.outcomes[0].verdict.reason, "why");
    }

    #[tokio::test]
    async fn few_fresh_ones_wait_for_company() {
        let now = Instant::now();
        let wait = Duration::from_millis(15);
        let mut unsaved = waiting(2, now);
        assert!(unsaved.next(now, wait, false, MAX).is_none());
        assert_eq!(unsaved.next_at(wait, now), Some(now + wait));
        let batch = unsaved.next(now + wait, wait, false, MAX).expect("the wait is over");
        assert_eq!(batch.outcomes.len(), 2);
        unsaved.push(outcome(3), now + wait);
        assert!(unsaved.next(now + wait, wait, true, MAX).is_none(), "one save at a time");
        assert!(unsaved.stuck(now + wait + STILL_AFTER) == 1, "and one that takes long is said");
        let saved_at = now + wait + STILL_AFTER;
        unsaved.answered(&batch.tried(), Vec::new(), saved_at);
        assert_eq!(
            unsaved.next_at(wait, saved_at),
            Some(saved_at + wait),
            "what came meanwhile waits for company from then"
        );
    }

    #[tokio::test]
    async fn a_save_that_stands_still_is_looked_at_once_and_not_without_end() {
        let now = Instant::now();
        let mut unsaved = waiting(2, now);
        let batch = unsaved.next(now, Duration::ZERO, true, 1).expect("there is one");
        let still = unsaved.next_at(Duration::ZERO, now).expect("it may stand still");
        assert_eq!((still, unsaved.stuck(still)), (now + STILL_AFTER, 1));
        assert_eq!(unsaved.next_at(Duration::ZERO, still), None, "only its answer changes that");
        unsaved.answered(&batch.tried(), Vec::new(), still);
        assert!(unsaved.next(still, Duration::ZERO, true, MAX).is_some());
    }
}
