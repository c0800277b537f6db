//! The queue between callers and the store's threads.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// Unbounded: callers wait for their answers, so it holds at most one entry per waiting caller.
#[derive(Debug)]
pub(crate) struct CommandQueue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> CommandQueue<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), filled: Condvar::new() }
    }

    /// Whether it was taken in: a closed queue takes nothing.
    pub(crate) fn push(&self, entry: T) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.waiting.push_back(entry);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Waits for at least one entry and takes it, and more as long as they are at most `count_max` and
    /// weigh at most `weight_max` together. `None` once the queue is closed and empty.
    pub(crate) fn take(
        &self,
        count_max: usize,
        weight_max: usize,
        weight: impl Fn(&T) -> usize,
    ) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            self.filled.wait(&mut state);
        }
        let mut taken = Vec::with_capacity(state.waiting.len().min(count_max));
        let mut total = 0;
        while let Some(next) = state.waiting.front() {
            total += weight(next);
            if !taken.is_empty() && (taken.len() >= count_max || total > weight_max) {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        Some(taken)
    }

    /// What waits is still taken; nothing more is let in.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// For a thread that ends without having taken everything: whoever waits must not wait for ever.
    pub(crate) fn abandon(&self) {
        let left = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(left);
    }
}

/// Closes a queue when its thread ends, even by a panic.
#[derive(Debug)]
pub(crate) struct AbandonGuard<'q, T>(pub(crate) &'q CommandQueue<T>);

impl<T> Drop for AbandonGuard<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_in_order_within_its_bounds() {
        let queue = CommandQueue::new();
        for weight in [9, 1, 1, 1, 1] {
            assert!(queue.push(weight));
        }
        let take = |count, weight| queue.take(count, weight, |entry| *entry).unwrap();
        assert_eq!(take(10, 5), [9], "a heavy one goes alone");
        assert_eq!(take(3, 5), [1, 1, 1]);
        queue.close();
        assert!(!queue.push(1));
        assert_eq!(take(3, 5), [1], "what waits is still taken");
        assert_eq!(queue.take(1, 1, |entry| *entry), None);
    }

    #[test]
    fn a_thread_that_ends_leaves_nobody_waiting() {
        let queue = CommandQueue::new();
        let (entry, mut waiting) = tokio::sync::oneshot::channel::<()>();
        assert!(queue.push(entry));
        drop(AbandonGuard(&queue));
        assert!(
            waiting.try_recv().is_err_and(|gone| gone != tokio::sync::oneshot::error::TryRecvError::Empty)
        );
        let (late, _) = tokio::sync::oneshot::channel::<()>();
        assert!(!queue.push(late));
    }
}
