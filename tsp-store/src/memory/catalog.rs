//! Apps, keys, configs and the audit log. Apps and configs themselves are in the book.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::{ConfigSpec, Paused, TaskConfig};
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};

use super::MemoryStore;
use super::state::{State, StoredKey, config_subject};
use crate::book::ConfigBook;
use crate::catalog::{
    ApiKey, App, AppEdit, AppSaved, AuditEntry, Catalog, ConfigSaved, Deleted, Expected, Hold, NewApp,
    NewKey, SaveConfig,
};
use crate::error::Result;
use crate::idempotency::{Keep, Kept};
use crate::parks::{Park, ParkNews};
use crate::schedule::Cursor;
use crate::tasks::Actor;

#[async_trait]
impl Catalog for MemoryStore {
    fn book(&self) -> &Arc<ConfigBook> {
        &self.book
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        keep: Option<Keep<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<AppSaved>> {
        self.write("create_app", |state| {
            if let Some(kept) = state.kept(keep.as_ref(), now) {
                return Ok(kept);
            }
            let saved = state.create_app(app, by, now);
            state.keep(keep, &saved);
            Ok(Kept::Fresh(saved))
        })
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        self.write("update_app", |state| Ok(state.update_app(id, edit, by, now)))
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.write("delete_app", |state| Ok(state.delete_app(id, by, now)))
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        self.write("create_key", |state| Ok(state.create_key(key, by, now)))
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        self.read("keys", |state| {
            let keys = state.keys.values().map(|stored| &stored.key);
            keys.filter(|key| key.app == app).cloned().collect()
        })
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        self.read("key_by_hash", |state| {
            state.keys.values().find(|stored| stored.hash == *hash).map(|stored| stored.key.clone())
        })
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.write("delete_key", |state| Ok(state.delete_key(app, id, by, now)))
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        keep: Option<Keep<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<ConfigSaved>> {
        self.write("save_config", |state| {
            if let Some(kept) = state.kept(keep.as_ref(), now) {
                return Ok(kept);
            }
            let saved = state.save_config(save, by, now);
            state.keep(keep, &saved);
            Ok(Kept::Fresh(saved))
        })
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        self.write("hold_config", |state| Ok(state.hold_config(id, hold, by, now)))
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        self.write("delete_config", |state| Ok(state.delete_config(id, expected, by, now)))
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.read("parked", |state| {
            state.parks.get(&id).map(|(park, _)| *park).filter(|park| park.until > now)
        })
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        self.write("unpark", |state| {
            state.save_park(ParkNews::Ended { config: id, at: now });
            Ok(())
        })
    }

    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.write("renew_id_slot", |state| {
            let used_until = state.slots.entry(slot).or_default();
            let left = *used_until;
            *used_until = left.max(until);
            Ok(left)
        })
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read("audit_log", |state| state.audit_log.iter().rev().take(limit).cloned().collect())
    }

    async fn refresh(&self) -> Result<()> {
        Ok(())
    }

    async fn applied_by_all(&self, _seq: i64) -> Result<bool> {
        Ok(true)
    }
}

impl State {
    fn create_app(&mut self, new: NewApp, by: &Actor, now: Timestamp) -> AppSaved {
        if self.book.app(new.name.as_str()).is_some() {
            return AppSaved::AlreadyExists;
        }
        let NewApp { name, description, owner } = new;
        let id = AppId::new(self.next_id());
        let app = Arc::new(App { id, name, description, owner, created_at: now, updated_at: now });
        self.book.put_app(app.clone());
        self.note(by, now, "app.create", app.name.to_string(), "");
        AppSaved::Saved(app)
    }

    fn update_app(&mut self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> AppSaved {
        let Some(app) = self.book.app_by_id(id) else { return AppSaved::NotFound };
        let mut app = App::clone(&app);
        app.description = edit.description.unwrap_or(app.description);
        app.owner = edit.owner.unwrap_or(app.owner);
        app.updated_at = now;
        let app = Arc::new(app);
        self.book.put_app(app.clone());
        self.note(by, now, "app.update", app.name.to_string(), "");
        AppSaved::Saved(app)
    }

    fn delete_app(&mut self, id: AppId, by: &Actor, now: Timestamp) -> Deleted {
        let Some(app) = self.book.app_by_id(id) else { return Deleted::NotFound };
        let configs = self.book.configs_of(id, None, usize::MAX).len();
        if configs > 0 {
            return Deleted::InUse(configs);
        }
        self.keys.retain(|_, stored| stored.key.app != Some(id));
        self.book.remove_app(id);
        self.note(by, now, "app.delete", app.name.to_string(), "");
        Deleted::Deleted
    }

    fn create_key(&mut self, new: NewKey, by: &Actor, now: Timestamp) -> ApiKey {
        let NewKey { app, name, scopes, hash, prefix, rate_limit, expires_at } = new;
        let id = KeyId::new(self.next_id());
        let key = ApiKey { id, app, name, scopes, prefix, rate_limit, expires_at, created_at: now };
        self.keys.insert(id, StoredKey { key: key.clone(), hash });
        let subject = self.key_subject(&key);
        self.note(by, now, "key.create", subject, key.name.clone());
        key
    }

    fn delete_key(&mut self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Deleted {
        let Some(stored) = self.keys.remove(&id) else { return Deleted::NotFound };
        if stored.key.app != app {
            // Another app's key is none of the caller's.
            self.keys.insert(id, stored);
            return Deleted::NotFound;
        }
        let subject = self.key_subject(&stored.key);
        self.note(by, now, "key.delete", subject, stored.key.name);
        Deleted::Deleted
    }

    fn key_subject(&self, key: &ApiKey) -> String {
        match key.app.and_then(|app| self.app_name(app)) {
            Some(app) => format!("{app}/{}", key.id),
            None => key.id.to_string(),
        }
    }

    fn save_config(&mut self, save: SaveConfig, by: &Actor, now: Timestamp) -> ConfigSaved {
        let SaveConfig { app, spec, expected } = save;
        let Some(app) = self.book.app_by_id(app) else { return ConfigSaved::NotFound };
        match (self.book.find_config(app.id, &spec.name), expected) {
            (None, Expected::Version(_)) => ConfigSaved::NotFound,
            (None, _) => self.create_config(&app, spec, by, now),
            (Some(_), Expected::Absent) => ConfigSaved::AlreadyExists,
            (Some(old), Expected::Version(version)) if version != old.version => {
                ConfigSaved::VersionMismatch { version: old.version }
            }
            (Some(old), _) if old.spec.kind != spec.kind => ConfigSaved::KindChanged,
            (Some(old), _) if old.spec.span != spec.span && self.rows.open_of(old.id).next().is_some() => {
                ConfigSaved::InUse(self.rows.open_of(old.id).count())
            }
            (Some(old), _) => {
                let saved = self.replace_config(TaskConfig { spec, ..TaskConfig::clone(&old) }, now);
                self.note(by, now, "config.update", config_subject(&saved), "");
                ConfigSaved::Updated(saved)
            }
        }
    }

    fn create_config(&mut self, app: &App, spec: ConfigSpec, by: &Actor, now: Timestamp) -> ConfigSaved {
        let config = Arc::new(TaskConfig {
            id: ConfigId::new(self.next_id()),
            app_id: app.id,
            app: app.name.clone(),
            spec,
            paused: None,
            version: 1,
            created_at: now,
            updated_at: now,
        });
        let seq = self.next_seq();
        self.book.put_config(config.clone(), seq);
        self.book.reach(seq);
        self.tend_cursor(&config);
        self.note(by, now, "config.create", config_subject(&config), "");
        ConfigSaved::Created(config)
    }

    /// Saves a changed config under its next version.
    fn replace_config(&mut self, mut config: TaskConfig, now: Timestamp) -> Arc<TaskConfig> {
        config.version += 1;
        config.updated_at = now;
        let config = Arc::new(config);
        let seq = self.next_seq();
        self.book.put_config(config.clone(), seq);
        self.book.reach(seq);
        self.tend_cursor(&config);
        config
    }

    /// A config with a schedule has a cursor. One that stands is left for the fetcher to recompute.
    fn tend_cursor(&mut self, config: &TaskConfig) {
        if config.spec.schedule.is_none() {
            self.cursors.remove(&config.id);
            return;
        }
        self.cursors.entry(config.id).or_insert(Cursor::new(config.id));
    }

    fn hold_config(&mut self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> ConfigSaved {
        let Some(old) = self.book.config(id) else { return ConfigSaved::NotFound };
        let mut config = TaskConfig::clone(&old);
        let (action, detail) = match hold {
            Hold::Pause { note } => {
                config.paused = Some(Paused { by: by.0.clone(), at: now, note: note.clone() });
                ("config.pause", note.unwrap_or_default())
            }
            Hold::Resume => {
                config.paused = None;
                ("config.resume", String::new())
            }
            Hold::Enable => {
                config.spec.enabled = true;
                ("config.enable", String::new())
            }
            Hold::Disable => {
                config.spec.enabled = false;
                ("config.disable", String::new())
            }
        };
        let saved = self.replace_config(config, now);
        self.note(by, now, action, config_subject(&saved), detail);
        ConfigSaved::Updated(saved)
    }

    fn delete_config(&mut self, id: ConfigId, expected: Expected, by: &Actor, now: Timestamp) -> Deleted {
        let Some(config) = self.book.config(id) else { return Deleted::NotFound };
        let expected_it = match expected {
            Expected::Any => true,
            Expected::Absent => false,
            Expected::Version(version) => version == config.version,
        };
        if !expected_it {
            return Deleted::VersionMismatch;
        }
        let open = self.rows.open_of(id).count();
        if open > 0 {
            return Deleted::InUse(open);
        }
        self.cursors.remove(&id);
        self.occurrences.retain(|(config, _), _| *config != id);
        let seq = self.next_seq();
        self.book.remove_config(id, seq);
        self.book.reach(seq);
        self.note(by, now, "config.delete", config_subject(&config), "");
        Deleted::Deleted
    }
}
