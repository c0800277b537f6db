//! What the fetcher receives: hints from callers, feedback from workers, and the signal that wakes it.
//!
//! Both streams may lose events: the fetcher's resync finds what they did not bring. An event wakes the
//! fetcher only when it is for now; else it waits for the fetcher's next turn, so that a flood of submits for
//! tomorrow costs it nothing.

use std::collections::{HashMap, HashSet};

use parking_lot::{Condvar, Mutex};
use tsp_core::{ConfigId, Millis, TaskId, Timestamp};

/// What a worker reports of one message after it is dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    pub task: TaskId,
    /// Unknown when the row is gone.
    pub config: Option<ConfigId>,
    /// The newest version of the row that is known here: messages of it and of earlier ones are dealt with.
    pub version: i64,
    /// The row returned to scheduled and is due then (retry, snooze, release).
    pub due_again: Option<Timestamp>,
    /// The row is awaiting until then.
    pub awaits_until: Option<Timestamp>,
    /// The receiver asked the whole config to wait (429 and 503 with `Retry-After`).
    pub park: Option<Millis>,
}

/// Where a worker sends its feedback. Lossy is fine.
pub trait FeedbackSink: Send + Sync + std::fmt::Debug {
    fn report(&self, batch: Vec<Feedback>);
}

/// Everything that came since the last turn.
#[derive(Debug, Default)]
pub struct InboxEvents {
    /// The earliest new due time per config.
    pub due: HashMap<ConfigId, Timestamp>,
    /// Configs that were made, changed, held, released or deleted.
    pub changed: HashSet<ConfigId>,
    pub feedback: Vec<Feedback>,
    /// Configs whose receiver asked for a wait, with the longest one and the task that it was asked by: of
    /// tasks that are others' to schedule.
    pub parks: HashMap<ConfigId, (TaskId, Millis)>,
    /// Configs whose wait was ended by an operator, and when.
    pub unparked: HashMap<ConfigId, Timestamp>,
    /// Something happened that only the rows show, such as the death of a worker.
    pub look_again: bool,
    /// A part of the pipe was lost with what it held.
    pub pipe_lost: bool,
}

/// What the fetcher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// An event of anything due at or before this is for now.
    pub events_before: Timestamp,
    /// Work is held back for want of room: any feedback is for now.
    pub wants_room: bool,
}

impl Turn {
    fn is_for_now(&self, feedback: &Feedback) -> bool {
        let next = feedback.due_again.into_iter().chain(feedback.awaits_until).min();
        self.wants_room || feedback.park.is_some() || next.is_some_and(|due_at| due_at <= self.events_before)
    }
}

/// One per fetcher.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<State>,
    signal: Condvar,
}

#[derive(Debug, Default)]
struct State {
    received: InboxEvents,
    waiting_for: Option<Turn>,
    awake: bool,
    stopped: bool,
}

impl Inbox {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hint: a task of `config` became due at `due_at`.
    pub fn due(&self, config: ConfigId, due_at: Timestamp) {
        let mut state = self.state.lock();
        let known = state.received.due.entry(config).or_insert(due_at);
        *known = due_at.min(*known);
        if state.waiting_for.is_some_and(|turn| due_at <= turn.events_before) {
            self.notify(state);
        }
    }

    /// Hint: `config` is not what it was.
    pub fn changed(&self, config: ConfigId) {
        let mut state = self.state.lock();
        state.received.changed.insert(config);
        self.notify(state);
    }

    /// Another fetcher's task was answered so that all of `config` is to wait.
    pub fn parked(&self, config: ConfigId, task: TaskId, length: Millis) {
        let mut state = self.state.lock();
        let known = state.received.parks.entry(config).or_insert((task, length));
        if known.1 < length {
            *known = (task, length);
        }
        self.notify(state);
    }

    /// Hint: what receivers of `config` asked for until `at` is over.
    pub fn unparked(&self, config: ConfigId, at: Timestamp) {
        let mut state = self.state.lock();
        let known = state.received.unparked.entry(config).or_insert(at);
        *known = at.max(*known);
        self.notify(state);
    }

    /// The rows are to be read again, now.
    pub fn look_again(&self) {
        let mut state = self.state.lock();
        state.received.look_again = true;
        self.notify(state);
    }

    /// Messages that were published before this may be lost.
    pub fn pipe_lost(&self) {
        let mut state = self.state.lock();
        state.received.pipe_lost = true;
        self.notify(state);
    }

    /// The clock was moved: take a turn.
    pub fn wake(&self) {
        self.notify(self.state.lock());
    }

    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        self.notify(state);
    }

    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Takes what has come.
    pub fn drain(&self) -> InboxEvents {
        std::mem::take(&mut self.state.lock().received)
    }

    /// Blocks the fetcher's thread until there is an event for now, or for `at_most`.
    pub fn wait(&self, turn: Turn, at_most: Millis) {
        let mut state = self.state.lock();
        let already = state.received.due.values().any(|due_at| *due_at <= turn.events_before)
            || !state.received.changed.is_empty()
            || state.received.feedback.iter().any(|feedback| turn.is_for_now(feedback));
        if !already && !state.awake && !state.stopped && at_most.is_positive() {
            state.waiting_for = Some(turn);
            self.signal.wait_for(&mut state, at_most.to_std());
        }
        state.waiting_for = None;
        state.awake = false;
    }

    fn notify(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        state.awake = true;
        let asleep = state.waiting_for.is_some();
        drop(state);
        if asleep {
            self.signal.notify_one();
        }
    }
}

impl FeedbackSink for Inbox {
    fn report(&self, batch: Vec<Feedback>) {
        let mut state = self.state.lock();
        let for_now =
            state.waiting_for.is_some_and(|turn| batch.iter().any(|feedback| turn.is_for_now(feedback)));
        state.received.feedback.extend(batch);
        if for_now {
            self.notify(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000_000);
    const CONFIG: ConfigId = ConfigId::new(7);

    #[test]
    fn keeps_the_earliest_due_time_of_each_config() {
        let inbox = Inbox::new();
        inbox.due(CONFIG, NOW.plus(Millis::from_secs(2)));
        inbox.due(CONFIG, NOW);
        inbox.due(CONFIG, NOW.plus(Millis::from_secs(1)));
        assert_eq!(inbox.drain().due[&CONFIG], NOW);
        assert!(inbox.drain().due.is_empty());
    }

    #[test]
    fn events_that_came_before_the_wait_end_it_at_once() {
        let inbox = Inbox::new();
        let turn = Turn { events_before: NOW, wants_room: false };
        inbox.due(CONFIG, NOW);
        // Would block for a day if the hint were missed.
        inbox.wait(turn, Millis::from_days(1));
        inbox.drain();
        inbox.wake();
        inbox.wait(turn, Millis::from_days(1));
    }

    /// Feedback that comes during a turn finds nobody asleep; the wait after it must not sleep over it.
    #[test]
    fn feedback_that_came_before_the_wait_ends_it_at_once() {
        let quiet = Feedback {
            task: TaskId::new(1),
            config: Some(CONFIG),
            version: 1,
            due_again: None,
            awaits_until: None,
            park: None,
        };
        let events = [
            Feedback { due_again: Some(NOW), ..quiet.clone() },
            Feedback { awaits_until: Some(NOW), ..quiet.clone() },
            Feedback { park: Some(Millis::from_secs(1)), ..quiet },
        ];
        for feedback in events {
            let inbox = Inbox::new();
            inbox.report(vec![feedback]);
            inbox.wait(Turn { events_before: NOW, wants_room: false }, Millis::from_days(1));
        }
    }

    #[test]
    fn a_sleeper_is_woken_by_events_for_now_only() {
        let inbox = std::sync::Arc::new(Inbox::new());
        let sleeper = inbox.clone();
        let thread = std::thread::spawn(move || {
            sleeper.wait(Turn { events_before: NOW, wants_room: false }, Millis::from_days(1));
            sleeper.drain()
        });
        while inbox.state.lock().waiting_for.is_none() {
            std::thread::yield_now();
        }
        inbox.due(CONFIG, NOW.plus(Millis::from_days(1)));
        assert!(!inbox.state.lock().awake, "tomorrow's task is no event for now");
        inbox.due(ConfigId::new(8), NOW);
        let received = thread.join().unwrap();
        assert_eq!(received.due.len(), 2);
    }
}
