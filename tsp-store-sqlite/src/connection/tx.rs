//! What a command works with on the writer thread.

use std::sync::Arc;

use tsp_core::ConfigId;
use tsp_core::config::TaskConfig;
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::backend::sums::Sums;
use tsp_store::catalog::App;
use tsp_store::config_cache::ConfigCache;
use tsp_store::documents::Sealer;
use tsp_store::error::Result;

use crate::connection::command::Metrics;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::tasks::rows::TaskRows;

/// What all threads of a store share.
#[derive(Debug)]
pub(crate) struct StoreContext {
    pub(crate) config_cache: Arc<ConfigCache>,
    pub(crate) sealer: Sealer,
    pub(crate) shards: u16,
    pub(crate) metrics: Metrics,
}

/// The open transaction, shared by the commands of one group.
pub(crate) struct Tx<'c> {
    pub(crate) conn: Session<'c>,
    pub(crate) rows: TaskRows<'c>,
    pub(crate) shared: &'c StoreContext,
    pub(crate) sums: Sums,
    /// Each with its number: 0 for those of apps, which are not numbered here.
    edits: Vec<(CacheEdit, i64)>,
}

/// How far the transaction was when a command began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    edits: usize,
    sums: Sums,
}

statements! {
    BALANCE_ADD = "-- balance_add
    UPDATE balance SET accepted = accepted + ?, ended = ended + ?, dropped = dropped + ? WHERE id = 1";
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: Session<'c>, shared: &'c StoreContext) -> Self {
        Self { conn, rows: TaskRows::new(conn), shared, sums: Sums::default(), edits: Vec::new() }
    }

    /// The config as it is in this transaction: with what earlier commands of the group changed, so that
    /// nothing begins under an older config than one that is answered with it (config barrier).
    pub(crate) fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        for (edit, _) in self.edits.iter().rev() {
            match edit {
                CacheEdit::PutConfig(config) if config.id == id => return Some(config.clone()),
                CacheEdit::RemoveConfig(gone) if *gone == id => return None,
                _ => {}
            }
        }
        self.shared.config_cache.config(id)
    }

    pub(crate) fn app(&self, id: tsp_core::AppId) -> Option<Arc<App>> {
        for (edit, _) in self.edits.iter().rev() {
            match edit {
                CacheEdit::PutApp(app) if app.id == id => return Some(app.clone()),
                CacheEdit::RemoveApp(gone) if *gone == id => return None,
                _ => {}
            }
        }
        self.shared.config_cache.app_by_id(id)
    }

    /// Seen by the commands after this one at once, and by everybody once it is committed.
    pub(crate) fn edit_cache(&mut self, edit: CacheEdit, seq: i64) {
        self.edits.push((edit, seq));
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { edits: self.edits.len(), sums: self.sums }
    }

    /// Forgets what came after `mark`.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.edits.truncate(mark.edits);
        self.sums = mark.sums;
    }

    /// The last write of the transaction: the sums change with the rows they count.
    pub(crate) fn write_sums(&mut self) -> Result<()> {
        if self.sums.is_empty() {
            return Ok(());
        }
        let Sums { accepted, dropped, .. } = self.sums;
        let add = [accepted, self.sums.ended(), dropped];
        self.conn.prepare(BALANCE_ADD)?.execute_one(add)
    }

    /// After the commit.
    pub(crate) fn committed(&mut self) {
        self.shared.metrics.ended(&std::mem::take(&mut self.sums).ended_by_result);
        for (edit, seq) in self.edits.drain(..) {
            edit.apply(&self.shared.config_cache, seq);
            self.shared.config_cache.reach(seq);
        }
    }

    /// After a rollback.
    pub(crate) fn forget(&mut self) {
        self.edits.clear();
        self.sums = Sums::default();
    }
}
