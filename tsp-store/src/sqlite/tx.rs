//! What a command works with on the writer thread.

use std::sync::Arc;

use rusqlite::Connection;
use tsp_core::ConfigId;
use tsp_core::config::TaskConfig;
use tsp_core::task::EndResult;

use crate::catalog::App;
use crate::config_cache::ConfigCache;
use crate::documents::Sealer;
use crate::error::Result;

use super::command::Metrics;
use super::fault::exactly_one;
use super::task_rows::Hot;

/// What all threads of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config_cache: Arc<ConfigCache>,
    pub(super) sealer: Sealer,
    pub(super) shards: u16,
    pub(super) metrics: Metrics,
}

/// A change of the config cache that waits for the commit.
#[derive(Debug)]
pub(super) enum CacheEdit {
    PutApp(Arc<App>),
    RemoveApp(tsp_core::AppId),
    PutConfig(Arc<TaskConfig>, i64),
    RemoveConfig(ConfigId, i64),
}

/// What the commands of a transaction add to the auditor's sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) accepted: i64,
    /// By result, in the order of [`EndResult::ALL`].
    ended: [i64; EndResult::ALL.len()],
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

/// The open transaction, shared by the commands of one group.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c Connection,
    pub(super) hot: Hot<'c>,
    pub(super) shared: &'c Shared,
    pub(super) sums: Sums,
    edits: Vec<CacheEdit>,
}

/// How far the transaction was when a command began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    edits: usize,
    sums: Sums,
}

const BALANCE_ADD: &str = "-- balance_add
UPDATE balance SET accepted = accepted + ?, ended = ended + ?, dropped = dropped + ? WHERE id = 1";

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c Connection, shared: &'c Shared) -> Self {
        Self { conn, hot: Hot::new(conn), shared, sums: Sums::default(), edits: Vec::new() }
    }

    /// The config as it is in this transaction: with what earlier commands of the group changed, so that
    /// nothing begins under an older config than one that is answered with it (config barrier).
    pub(super) fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        for edit in self.edits.iter().rev() {
            match edit {
                CacheEdit::PutConfig(config, _) if config.id == id => return Some(config.clone()),
                CacheEdit::RemoveConfig(gone, _) if *gone == id => return None,
                _ => {}
            }
        }
        self.shared.config_cache.config(id)
    }

    pub(super) fn app(&self, id: tsp_core::AppId) -> Option<Arc<App>> {
        for edit in self.edits.iter().rev() {
            match edit {
                CacheEdit::PutApp(app) if app.id == id => return Some(app.clone()),
                CacheEdit::RemoveApp(gone) if *gone == id => return None,
                _ => {}
            }
        }
        self.shared.config_cache.app_by_id(id)
    }

    /// Seen by the commands after this one at once, and by everybody once it is committed.
    pub(super) fn edit_cache(&mut self, edit: CacheEdit) {
        self.edits.push(edit);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { edits: self.edits.len(), sums: self.sums }
    }

    /// Forgets what came after `mark`.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.edits.truncate(mark.edits);
        self.sums = mark.sums;
    }

    /// The last write of the transaction: the sums change with the rows they count.
    pub(super) fn write_sums(&mut self) -> Result<()> {
        if self.sums == Sums::default() {
            return Ok(());
        }
        let Sums { accepted, ended, dropped } = self.sums;
        let ended: i64 = ended.iter().sum();
        let changed = self.conn.prepare_cached(BALANCE_ADD)?.execute([accepted, ended, dropped])?;
        exactly_one(changed, "balance_add")
    }

    /// After the commit.
    pub(super) fn committed(&mut self) {
        self.shared.metrics.ended(&std::mem::take(&mut self.sums).ended);
        let config_cache = &self.shared.config_cache;
        for edit in self.edits.drain(..) {
            match edit {
                CacheEdit::PutApp(app) => config_cache.put_app(app),
                CacheEdit::RemoveApp(id) => config_cache.remove_app(id),
                CacheEdit::PutConfig(config, seq) => {
                    config_cache.put_config(config, seq);
                    config_cache.reach(seq);
                }
                CacheEdit::RemoveConfig(id, seq) => {
                    config_cache.remove_config(id, seq);
                    config_cache.reach(seq);
                }
            }
        }
    }

    /// After a rollback.
    pub(super) fn forget(&mut self) {
        self.edits.clear();
        self.sums = Sums::default();
    }
}
