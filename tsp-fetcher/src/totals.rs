//! How much the windows of all fetchers of a process hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the windows of a process hold together.
#[derive(Debug, Default)]
pub struct WindowTotals {
    /// Claimed and not published.
    rows: AtomicUsize,
    /// Of rows that are kept whole.
    bytes: AtomicUsize,
}

impl WindowTotals {
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one window adds to them, until it is gone.
#[derive(Debug, Default)]
pub(crate) struct Share {
    rows: usize,
    bytes: usize,
    of: Arc<WindowTotals>,
}

impl Share {
    pub(crate) fn of(all: Arc<WindowTotals>) -> Self {
        Self { rows: 0, bytes: 0, of: all }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn of_all(&self) -> &WindowTotals {
        &self.of
    }

    pub(crate) fn add(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
        self.of.rows.fetch_add(rows, Ordering::Relaxed);
        self.of.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take(&mut self, rows: usize, bytes: usize) {
        self.rows -= rows;
        self.bytes -= bytes;
        self.of.rows.fetch_sub(rows, Ordering::Relaxed);
        self.of.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.take(self.rows, self.bytes);
    }
}
