//! The config cache, all apps and configs: every role reads it and asks no database for each task.
//!
//! A back end applies a change to its config cache right after the commit and before it answers, so within
//! one process nothing begins under an older config than one that was answered (DESIGN.md section 6, config
//! barrier). What was begun before stands on a [`ConfigReadGuard`], and a node says that it has applied a change only
//! when nothing stands on less: [`ConfigCache::finalised`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tsp_core::config::TaskConfig;
use tsp_core::ids::IdMap;
use tsp_core::work::Configs;
use tsp_core::{AppId, ConfigId, Name};

use crate::catalog::App;
use crate::config_read_guard::{ConfigReadGuard, ReadGuards};
use crate::search::Scope;

/// A consistent, shared view of all apps and configs.
#[derive(Debug, Default)]
pub struct ConfigCache {
    inner: RwLock<Inner>,
}

impl Configs for ConfigCache {
    fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.config(id)
    }
}

#[derive(Debug, Default)]
struct Inner {
    seq: i64,
    newest: i64,
    read_guards: ReadGuards,
    apps: BTreeMap<Name, Arc<App>>,
    app_names: IdMap<AppId, Name>,
    configs: IdMap<ConfigId, Arc<TaskConfig>>,
    names: BTreeMap<(AppId, Name), ConfigId>,
    /// Each config under the number of its last change.
    changes: BTreeSet<(i64, ConfigId)>,
    changed: IdMap<ConfigId, i64>,
}

impl Inner {
    fn forget_change(&mut self, id: ConfigId) {
        if let Some(seq) = self.changed.remove(&id) {
            self.changes.remove(&(seq, id));
        }
    }
}

impl ConfigCache {
    /// The number up to which every change is applied.
    pub fn seq(&self) -> i64 {
        self.inner.read().seq
    }

    /// The highest number of all changes that were put into the config cache, perhaps before those that came earlier.
    pub fn newest(&self) -> i64 {
        let inner = self.inner.read();
        inner.newest.max(inner.seq)
    }

    /// Every change up to number `seq` is applied, whether or not it was one of a config. Nothing else raises
    /// the number: a change may be put into the config cache before those that came earlier.
    pub fn reach(&self, seq: i64) {
        let mut inner = self.inner.write();
        if seq > inner.seq {
            inner.seq = seq;
            inner.read_guards.rise(seq);
        }
    }

    /// Taken before a config is read, and kept until what was decided by it has ended in the store.
    pub fn read_guard(&self) -> ConfigReadGuard {
        self.inner.read().read_guards.read_guard()
    }

    /// The number that a node may say it has applied: that of the config cache, or the least that any work in flight
    /// stands on.
    pub fn finalised(&self) -> i64 {
        self.inner.read().read_guards.finalised()
    }

    /// Told each time when the last work that stood on an older number has ended. For one who waits.
    pub fn finalising(&self) -> Arc<Notify> {
        self.inner.read().read_guards.finalising().clone()
    }

    pub fn app(&self, name: &str) -> Option<Arc<App>> {
        self.inner.read().apps.get(name).cloned()
    }

    pub fn app_by_id(&self, id: AppId) -> Option<Arc<App>> {
        let inner = self.inner.read();
        inner.app_names.get(&id).and_then(|name| inner.apps.get(name)).cloned()
    }

    /// All apps by name, from the one after `after`.
    pub fn apps(&self, after: Option<&str>, limit: usize) -> Vec<Arc<App>> {
        let inner = self.inner.read();
        let rest = inner.apps.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        rest.take(limit).map(|(_, app)| app.clone()).collect()
    }

    pub fn config(&self, id: ConfigId) -> Option<Arc<TaskConfig>> {
        self.inner.read().configs.get(&id).cloned()
    }

    pub fn find_config(&self, app: AppId, name: &Name) -> Option<Arc<TaskConfig>> {
        let inner = self.inner.read();
        inner.names.get(&(app, name.clone())).and_then(|id| inner.configs.get(id)).cloned()
    }

    /// The configs of `app` by name, from the one after `after`.
    pub fn configs_of(&self, app: AppId, after: Option<&Name>, limit: usize) -> Vec<Arc<TaskConfig>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let inner = self.inner.read();
        let Some(least) = inner.names.keys().find(|(id, _)| *id == app).map(|key| key.1.clone()) else {
            return Vec::new();
        };
        let from =
            after.map_or(std::ops::Bound::Included((app, least)), |name| Excluded((app, name.clone())));
        let named = inner.names.range((from, Unbounded)).take_while(|((id, _), _)| *id == app);
        named.take(limit).filter_map(|(_, id)| inner.configs.get(id).cloned()).collect()
    }

    /// The configs of a search, in rising order.
    pub fn in_scope(&self, scope: &Scope) -> Vec<ConfigId> {
        let mut ids = match scope {
            Scope::Config(id) => vec![*id],
            Scope::Configs(ids) => ids.clone(),
            Scope::App(app) => {
                self.configs_of(*app, None, usize::MAX).iter().map(|config| config.id).collect()
            }
        };
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub fn config_count(&self) -> usize {
        self.inner.read().configs.len()
    }

    /// Every config, in no order: for start-up and resync only.
    pub fn all_configs(&self) -> Vec<Arc<TaskConfig>> {
        self.inner.read().configs.values().cloned().collect()
    }

    /// The configs that were made or changed after change number `seq`, in the order of their changes. What
    /// was deleted is not among them.
    pub fn changed_since(&self, seq: i64) -> Vec<Arc<TaskConfig>> {
        let inner = self.inner.read();
        let later = inner.changes.range((seq.saturating_add(1), ConfigId::new(i64::MIN))..);
        later.filter_map(|(_, id)| inner.configs.get(id).cloned()).collect()
    }

    pub fn put_app(&self, app: Arc<App>) {
        let mut inner = self.inner.write();
        inner.app_names.insert(app.id, app.name.clone());
        inner.apps.insert(app.name.clone(), app);
    }

    pub fn remove_app(&self, id: AppId) {
        let mut inner = self.inner.write();
        if let Some(name) = inner.app_names.remove(&id) {
            inner.apps.remove(&name);
        }
    }

    /// By change number `seq`; those before it may still be missing.
    pub fn put_config(&self, config: Arc<TaskConfig>, seq: i64) {
        let mut inner = self.inner.write();
        inner.newest = inner.newest.max(seq);
        inner.forget_change(config.id);
        inner.changes.insert((seq, config.id));
        inner.changed.insert(config.id, seq);
        inner.names.insert((config.app_id, config.spec.name.clone()), config.id);
        inner.configs.insert(config.id, config);
    }

    /// As [`ConfigCache::put_config`].
    pub fn remove_config(&self, id: ConfigId, seq: i64) {
        let mut inner = self.inner.write();
        inner.newest = inner.newest.max(seq);
        inner.forget_change(id);
        if let Some(config) = inner.configs.remove(&id) {
            inner.names.remove(&(config.app_id, config.spec.name.clone()));
        }
    }
}
