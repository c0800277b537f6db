//! A transaction, and what it adds to the auditor's sums.

use std::marker::PhantomData;
use std::sync::Arc;

use tsp_core::ConfigId;
use tsp_core::config::TaskConfig;
use tsp_core::task::EndResult;

use crate::config_cache::ConfigCache;

use super::session::Session;

/// What a transaction adds to the auditor's sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) accepted: i64,
    /// By result, in the order of [`EndResult::ALL`].
    pub(super) ended: [i64; EndResult::ALL.len()],
    pub(super) dropped: i64,
}

impl Sums {
    /// A task without a result is not ended, and makes the auditor speak up.
    pub(super) fn end(&mut self, result: Option<EndResult>) {
        if let Some(at) = EndResult::ALL.iter().position(|known| Some(*known) == result) {
            self.ended[at] += 1;
        }
    }
}

/// An open transaction. `'e` is the life of what the work borrows.
#[derive(Debug)]
pub(super) struct Tx<'e> {
    session: Session,
    /// Of the shard's rows; nothing on the meta database.
    pub(super) sums: Sums,
    /// The configs that it goes by, each with its version; `None`: it was not there.
    pub(super) by: Vec<(ConfigId, Option<i64>)>,
    undo: bool,
    work: PhantomData<&'e ()>,
}

impl Tx<'_> {
    pub(super) fn new(session: Session) -> Self {
        Self { session, sums: Sums::default(), by: Vec::new(), undo: false, work: PhantomData }
    }

    pub(super) fn conn(&mut self) -> &mut Session {
        &mut self.session
    }

    /// A config that decides what may be written. Before the commit it is checked whether it still stands as
    /// it did, and all of the work is retried if not.
    pub(super) fn config(&mut self, config_cache: &ConfigCache, id: ConfigId) -> Option<Arc<TaskConfig>> {
        let config = config_cache.config(id);
        let seen = (id, config.as_ref().map(|config| config.version));
        if !self.by.contains(&seen) {
            self.by.push(seen);
        }
        config
    }

    /// Whatever the work answers, nothing of it is kept.
    pub(super) fn undo(&mut self) {
        self.undo = true;
    }

    pub(super) fn is_undone(&self) -> bool {
        self.undo
    }
}
