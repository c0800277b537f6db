//! What a worker knows to be begun and not yet saved.
//!
//! By attempt, not by task: a task may have its next attempt before the outcome of the last one is saved. Its
//! receiver completed inside the call, or the answer of a commit was lost.

use parking_lot::Mutex;
use tsp_core::ids::{IdMap, IdSet};
use tsp_core::{Millis, TaskId, Timestamp};

/// How often a worker that begins things compares what it runs with the rows under its name.
const RECONCILE_EVERY: Millis = Millis::from_secs(5);
/// How soon a comparison that failed, or that met a begin in flight, is made again.
const RECONCILE_AGAIN_AFTER: Millis = Millis::from_ms(200);
/// For so long a begin without an answer may still happen: the server works on after we gave up.
const UNSURE_FOR: Millis = Millis::from_secs(60);

#[derive(Debug)]
pub(crate) struct RunningAttempts {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    attempts: IdSet<(TaskId, u32)>,
    /// Tasks inside begins that are not answered, and in how many.
    beginning: IdMap<TaskId, usize>,
    /// For each bulkhead.
    comparisons: Vec<Comparison>,
}

/// When to compare with the rows of a bulkhead.
#[derive(Debug, Clone, Default)]
struct Comparison {
    /// `None` while nothing was begun since the last time.
    at: Option<Timestamp>,
    unsure_until: Option<Timestamp>,
}

impl Comparison {
    fn by(&mut self, at: Timestamp) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

impl RunningAttempts {
    pub(crate) fn new(bulkheads: usize) -> Self {
        let comparisons = vec![Comparison::default(); bulkheads];
        let state = State { attempts: IdSet::default(), beginning: IdMap::default(), comparisons };
        Self { state: Mutex::new(state) }
    }

    /// From now on these tasks are inside a begin; each with its bulkhead.
    pub(crate) fn begin(&self, tasks: Vec<(usize, TaskId)>, now: Timestamp) -> BeginGuard<'_> {
        let mut state = self.state.lock();
        for (bulkhead, task) in &tasks {
            state.comparisons[*bulkhead].by(now.plus(RECONCILE_EVERY));
            *state.beginning.entry(*task).or_default() += 1;
        }
        BeginGuard { running: self, tasks, now }
    }

    /// The attempt's outcome is saved, or came too late.
    pub(crate) fn closed(&self, attempt: (TaskId, u32)) {
        self.state.lock().attempts.remove(&attempt);
    }

    /// Rows may be under our name that nobody here runs.
    pub(crate) fn unsure(&self, bulkhead: usize, now: Timestamp) {
        let comparison = &mut self.state.lock().comparisons[bulkhead];
        comparison.by(now);
        comparison.unsure_until = Some(now.plus(UNSURE_FOR));
    }

    /// When to compare next, by bulkhead.
    pub(crate) fn reconcile_at(&self) -> Vec<Option<Timestamp>> {
        self.state.lock().comparisons.iter().map(|comparison| comparison.at).collect()
    }

    /// Whether to compare a bulkhead now. Asked before its rows are read, so that a begin in between wants
    /// the next comparison.
    pub(crate) fn start_reconcile(&self, bulkhead: usize, now: Timestamp) -> bool {
        let comparison = &mut self.state.lock().comparisons[bulkhead];
        if comparison.at.is_none_or(|at| at > now) {
            return false;
        }
        comparison.unsure_until.take_if(|until| *until <= now);
        comparison.at = comparison.unsure_until.map(|_| now.plus(RECONCILE_EVERY));
        true
    }

    /// The comparison is to be made again soon.
    pub(crate) fn reconcile_again(&self, bulkhead: usize, now: Timestamp) {
        self.state.lock().comparisons[bulkhead].by(now.plus(RECONCILE_AGAIN_AFTER));
    }

    /// Those of `rows`, read as open under our name, that nobody here runs. A row may be older than what is
    /// known here: an attempt that was closed since is left alone by the store. What is inside a begin may be
    /// answered yet.
    pub(crate) fn orphaned_attempts(
        &self,
        bulkhead: usize,
        mut rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Vec<(TaskId, u32)> {
        let mut state = self.state.lock();
        let mut in_flight = false;
        rows.retain(|row| {
            let beginning = state.beginning.contains_key(&row.0);
            in_flight |= beginning;
            !beginning && !state.attempts.contains(row)
        });
        if in_flight {
            state.comparisons[bulkhead].by(now.plus(RECONCILE_AGAIN_AFTER));
        }
        rows
    }
}

/// A begin in flight. Dropped without an answer, it may have happened.
#[derive(Debug)]
pub(crate) struct BeginGuard<'a> {
    running: &'a RunningAttempts,
    tasks: Vec<(usize, TaskId)>,
    now: Timestamp,
}

impl BeginGuard<'_> {
    /// These attempts run here now: at no moment in between do they look orphaned.
    pub(crate) fn answered(mut self, begun: impl IntoIterator<Item = (TaskId, u32)>) {
        let mut state = self.running.state.lock();
        state.attempts.extend(begun);
        leave(&mut state, &std::mem::take(&mut self.tasks));
    }
}

impl Drop for BeginGuard<'_> {
    fn drop(&mut self) {
        leave(&mut self.running.state.lock(), &self.tasks);
        for (bulkhead, _) in &self.tasks {
            self.running.unsure(*bulkhead, self.now);
        }
    }
}

fn leave(state: &mut State, tasks: &[(usize, TaskId)]) {
    for (_, task) in tasks {
        if let Some(count) = state.beginning.get_mut(task) {
            *count -= 1;
            if *count == 0 {
                state.beginning.remove(task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_ms(1_000);
    const TASK: TaskId = TaskId::new(1);

    fn at(after_ms: i64) -> Timestamp {
        T0.plus(Millis::from_ms(after_ms))
    }

    #[test]
    fn the_outcome_of_one_attempt_says_nothing_of_the_next() {
        let running = RunningAttempts::new(2);
        running.begin(vec![(1, TASK)], T0).answered([(TASK, 1)]);
        running.begin(vec![(1, TASK)], T0).answered([(TASK, 2)]);
        running.closed((TASK, 1));
        assert_eq!(running.orphaned_attempts(1, vec![(TASK, 2)], T0), []);
        running.closed((TASK, 2));
        assert_eq!(running.orphaned_attempts(1, vec![(TASK, 2)], T0), [(TASK, 2)]);
    }

    #[test]
    fn a_row_inside_a_begin_is_nobodys_only_when_no_begin_can_answer_for_it() {
        let running = RunningAttempts::new(2);
        let (first, again) = (running.begin(vec![(1, TASK)], T0), running.begin(vec![(1, TASK)], T0));
        assert!(!running.start_reconcile(1, T0));
        drop(first);
        assert!(!running.start_reconcile(0, T0), "another part is none of its business");
        assert!(running.start_reconcile(1, T0), "a begin without an answer is looked for at once");
        assert_eq!(running.orphaned_attempts(1, vec![(TASK, 1)], T0), [], "the other one may answer for it");
        assert_eq!(running.reconcile_at()[1], Some(at(200)), "and is asked for soon");
        again.answered([]);
        assert_eq!(running.orphaned_attempts(1, vec![(TASK, 1)], at(200)), [(TASK, 1)]);
    }

    #[test]
    fn a_begin_without_an_answer_is_looked_for_until_it_cannot_happen_any_more() {
        let running = RunningAttempts::new(2);
        drop(running.begin(vec![(1, TASK)], T0));
        let (mut now, mut looks) = (T0, 0);
        while running.start_reconcile(1, now) {
            looks += 1;
            now = running.reconcile_at()[1].unwrap_or(now);
        }
        assert_eq!((looks, now), (13, at(60_000)));
    }

    #[test]
    fn a_begin_during_a_comparison_wants_the_next_one() {
        let running = RunningAttempts::new(2);
        running.begin(vec![(1, TASK)], T0).answered([(TASK, 1)]);
        assert!(running.start_reconcile(1, at(5_000)));
        running.begin(vec![(1, TASK)], at(5_001)).answered([(TASK, 2)]);
        running.orphaned_attempts(1, Vec::new(), at(5_002));
        assert_eq!(running.reconcile_at()[1], Some(at(10_001)));
    }
}
