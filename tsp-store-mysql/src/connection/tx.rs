//! A transaction, and what it adds to the auditor's sums.

use std::marker::PhantomData;
use std::sync::Arc;

use tsp_core::ConfigId;
use tsp_core::config::TaskConfig;
use tsp_store::backend::sums::Sums;
use tsp_store::config_cache::ConfigCache;

use crate::connection::session::Session;

/// An open transaction. `'e` is the life of what the work borrows.
#[derive(Debug)]
pub(crate) struct Tx<'e> {
    session: Session,
    /// Of the shard's rows; nothing on the meta database.
    pub(crate) sums: Sums,
    /// The configs that it goes by, each with its version; `None`: it was not there.
    pub(crate) by: Vec<(ConfigId, Option<i64>)>,
    undo: bool,
    work: PhantomData<&'e ()>,
}

impl Tx<'_> {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, sums: Sums::default(), by: Vec::new(), undo: false, work: PhantomData }
    }

    pub(crate) fn conn(&mut self) -> &mut Session {
        &mut self.session
    }

    /// A config that decides what may be written. Before the commit it is checked whether it still stands as
    /// it did, and all of the work is retried if not.
    pub(crate) fn config(&mut self, config_cache: &ConfigCache, id: ConfigId) -> Option<Arc<TaskConfig>> {
        let config = config_cache.config(id);
        let seen = (id, config.as_ref().map(|config| config.version));
        if !self.by.contains(&seen) {
            self.by.push(seen);
        }
        config
    }

    /// Whatever the work answers, nothing of it is kept.
    pub(crate) fn undo(&mut self) {
        self.undo = true;
    }

    pub(crate) fn is_undone(&self) -> bool {
        self.undo
    }
}
