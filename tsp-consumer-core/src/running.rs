//! What a worker knows to be begun and not yet saved.
//!
//! By attempt, not by task: a task may have its next attempt before the outcome of the last one is saved. Its
//! callee completed inside the call, or the answer of a commit was lost.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tsp_core::{Millis, TaskId, Timestamp};

/// How often a worker that begins things compares what it runs with the rows under its name.
const RECONCILE_EVERY: Millis = Millis::from_secs(5);
/// How soon a comparison that failed, or that met a begin in flight, is made again.
const RECONCILE_AGAIN_AFTER: Millis = Millis::from_ms(200);
/// For so long a begin without an answer may still happen: the server works on after we gave up.
const UNSURE_FOR: Millis = Millis::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Running {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: HashSet<(TaskId, u32)>,
    /// Tasks inside begins that are not answered, and in how many.
    beginning: HashMap<TaskId, usize>,
    /// When to compare with the rows; `None` while nothing was begun since the last time.
    reconcile_at: Option<Timestamp>,
    unsure_until: Option<Timestamp>,
}

impl State {
    fn reconcile_by(&mut self, at: Timestamp) {
        self.reconcile_at = Some(self.reconcile_at.map_or(at, |known| known.min(at)));
    }
}

impl Running {
    /// From now on these tasks are inside a begin.
    pub(crate) fn begin(&self, tasks: Vec<TaskId>, now: Timestamp) -> Beginning<'_> {
        let mut state = self.state.lock();
        state.reconcile_by(now.plus(RECONCILE_EVERY));
        for task in &tasks {
            *state.beginning.entry(*task).or_default() += 1;
        }
        Beginning { running: self, tasks, now }
    }

    /// The attempt's outcome is saved, or came too late.
    pub(crate) fn closed(&self, attempt: (TaskId, u32)) {
        self.state.lock().attempts.remove(&attempt);
    }

    /// Rows may be under our name that nobody here runs.
    pub(crate) fn unsure(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.reconcile_by(now);
        state.unsure_until = Some(now.plus(UNSURE_FOR));
    }

    pub(crate) fn reconcile_at(&self) -> Option<Timestamp> {
        self.state.lock().reconcile_at
    }

    /// Whether to compare now. Asked before the rows are read, so that a begin in between wants the next
    /// comparison.
    pub(crate) fn start_reconcile(&self, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        if state.reconcile_at.is_none_or(|at| at > now) {
            return false;
        }
        let unsure = state.unsure_until.is_some_and(|until| until > now);
        if !unsure {
            state.unsure_until = None;
        }
        state.reconcile_at = unsure.then(|| now.plus(RECONCILE_EVERY));
        true
    }

    /// The comparison is to be made again soon.
    pub(crate) fn reconcile_again(&self, now: Timestamp) {
        self.state.lock().reconcile_by(now.plus(RECONCILE_AGAIN_AFTER));
    }

    /// Those of `rows`, read as open under our name, that nobody here runs. A row may be older than what is
    /// known here: an attempt that was closed since is left alone by the store. What is inside a begin may be
    /// answered yet.
    pub(crate) fn strangers(&self, mut rows: Vec<(TaskId, u32)>, now: Timestamp) -> Vec<(TaskId, u32)> {
        let mut state = self.state.lock();
        let mut in_flight = false;
        rows.retain(|row| {
            let beginning = state.beginning.contains_key(&row.0);
            in_flight |= beginning;
            !beginning && !state.attempts.contains(row)
        });
        if in_flight {
            state.reconcile_by(now.plus(RECONCILE_AGAIN_AFTER));
        }
        rows
    }
}

/// A begin in flight. Dropped without an answer, it may have happened.
#[derive(Debug)]
pub(crate) struct Beginning<'a> {
    running: &'a Running,
    tasks: Vec<TaskId>,
    now: Timestamp,
}

impl Beginning<'_> {
    /// These attempts run here now: at no moment in between do they look like nobody's.
    pub(crate) fn answered(mut self, begun: impl IntoIterator<Item = (TaskId, u32)>) {
        let mut state = self.running.state.lock();
        state.attempts.extend(begun);
        leave(&mut state, &std::mem::take(&mut self.tasks));
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            leave(&mut self.running.state.lock(), &self.tasks);
            self.running.unsure(self.now);
        }
    }
}

fn leave(state: &mut State, tasks: &[TaskId]) {
    for task in tasks {
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
        let running = Running::default();
        running.begin(vec![TASK], T0).answered([(TASK, 1)]);
        running.begin(vec![TASK], T0).answered([(TASK, 2)]);
        running.closed((TASK, 1));
        assert_eq!(running.strangers(vec![(TASK, 2)], T0), []);
        running.closed((TASK, 2));
        assert_eq!(running.strangers(vec![(TASK, 2)], T0), [(TASK, 2)]);
    }

    #[test]
    fn a_row_inside_a_begin_is_nobodys_only_when_no_begin_can_answer_for_it() {
        let running = Running::default();
        let (first, again) = (running.begin(vec![TASK], T0), running.begin(vec![TASK], T0));
        assert!(!running.start_reconcile(T0));
        drop(first);
        assert!(running.start_reconcile(T0), "a begin without an answer is looked for at once");
        assert_eq!(running.strangers(vec![(TASK, 1)], T0), [], "the other one may answer for it");
        assert_eq!(running.reconcile_at(), Some(at(200)), "and is asked for soon");
        again.answered([]);
        assert_eq!(running.strangers(vec![(TASK, 1)], at(200)), [(TASK, 1)]);
    }

    #[test]
    fn a_begin_without_an_answer_is_looked_for_until_it_cannot_happen_any_more() {
        let running = Running::default();
        drop(running.begin(vec![TASK], T0));
        let (mut now, mut looks) = (T0, 0);
        while running.start_reconcile(now) {
            looks += 1;
            now = running.reconcile_at().unwrap_or(now);
        }
        assert_eq!((looks, now), (13, at(60_000)));
    }

    #[test]
    fn a_begin_during_a_comparison_wants_the_next_one() {
        let running = Running::default();
        running.begin(vec![TASK], T0).answered([(TASK, 1)]);
        assert!(running.start_reconcile(at(5_000)));
        running.begin(vec![TASK], at(5_001)).answered([(TASK, 2)]);
        running.strangers(Vec::new(), at(5_002));
        assert_eq!(running.reconcile_at(), Some(at(10_001)));
    }
}
