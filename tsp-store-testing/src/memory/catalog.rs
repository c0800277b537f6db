//! Apps, keys, configs and the audit log. Apps and configs themselves are in the config cache.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::save::{self, ConfigWrite, CursorChange, SaveDecision};
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};
use tsp_store::catalog::{
    ApiKey, App, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, DeleteResult,
    ExpectedVersion, Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::Result;
use tsp_store::fetching::Cursor;
use tsp_store::id_source::IdSlots;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::tasks::Actor;

use super::MemoryStore;
use super::state::{State, StoredKey};

#[async_trait]
impl Catalog for MemoryStore {
    fn config_cache(&self) -> &Arc<ConfigCache> {
        &self.config_cache
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>> {
        self.write("create_app", |state| {
            if let Some(kept) = state.recorded(idempotency.as_ref(), now) {
                return Ok(kept);
            }
            let saved = state.create_app(app, by, now);
            state.record(idempotency, &saved);
            Ok(IdempotencyResult::Fresh(saved))
        })
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        self.write("update_app", |state| Ok(state.update_app(id, edit, by, now)))
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<DeleteResult> {
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

    async fn delete_key(
        &self,
        app: Option<AppId>,
        id: KeyId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        self.write("delete_key", |state| Ok(state.delete_key(app, id, by, now)))
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        self.write("save_config", |state| {
            if let Some(kept) = state.recorded(idempotency.as_ref(), now) {
                return Ok(kept);
            }
            let saved = state.save_config(save, by, now);
            state.record(idempotency, &saved);
            Ok(IdempotencyResult::Fresh(saved))
        })
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        self.write("hold_config", |state| Ok(state.hold_config(id, hold, by, now)))
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        self.write("delete_config", |state| Ok(state.delete_config(id, expected, by, now)))
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.read("parked", |state| {
            state.parks.get(&id).map(|(park, _)| *park).filter(|park| park.until > now)
        })
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        self.write("unpark", |state| {
            state.save_park(ParkEvent::Ended { config: id, at: now });
            Ok(())
        })
    }

    async fn refresh(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ConfigBarrier for MemoryStore {
    async fn applied_by_all(&self, _seq: i64) -> Result<bool> {
        Ok(true)
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read("audit_log", |state| state.audit_log.iter().rev().take(limit).cloned().collect())
    }
}

#[async_trait]
impl IdSlots for MemoryStore {
    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.write("renew_id_slot", |state| {
            let used_until = state.slots.entry(slot).or_default();
            let left = *used_until;
            *used_until = left.max(until);
            Ok(left)
        })
    }
}

impl State {
    fn create_app(&mut self, new: NewApp, by: &Actor, now: Timestamp) -> AppSaved {
        if self.config_cache.app(new.name.as_str()).is_some() {
            return AppSaved::AlreadyExists;
        }
        let NewApp { name, description, owner } = new;
        let id = AppId::new(self.next_id());
        let app = Arc::new(App { id, name, description, owner, created_at: now, updated_at: now });
        self.config_cache.put_app(app.clone());
        self.note(by, now, "app.create", app.name.to_string(), "");
        AppSaved::Saved(app)
    }

    fn update_app(&mut self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> AppSaved {
        let Some(app) = self.config_cache.app_by_id(id) else { return AppSaved::NotFound };
        let mut app = App::clone(&app);
        app.description = edit.description.unwrap_or(app.description);
        app.owner = edit.owner.unwrap_or(app.owner);
        app.updated_at = now;
        let app = Arc::new(app);
        self.config_cache.put_app(app.clone());
        self.note(by, now, "app.update", app.name.to_string(), "");
        AppSaved::Saved(app)
    }

    fn delete_app(&mut self, id: AppId, by: &Actor, now: Timestamp) -> DeleteResult {
        let Some(app) = self.config_cache.app_by_id(id) else { return DeleteResult::NotFound };
        let configs = self.config_cache.configs_of(id, None, usize::MAX).len();
        if configs > 0 {
            return DeleteResult::InUse(configs);
        }
        self.keys.retain(|_, stored| stored.key.app != Some(id));
        self.config_cache.remove_app(id);
        self.note(by, now, "app.delete", app.name.to_string(), "");
        DeleteResult::Deleted
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

    fn delete_key(&mut self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> DeleteResult {
        let Some(stored) = self.keys.remove(&id) else { return DeleteResult::NotFound };
        if stored.key.app != app {
            // Another app's key is none of the caller's.
            self.keys.insert(id, stored);
            return DeleteResult::NotFound;
        }
        let subject = self.key_subject(&stored.key);
        self.note(by, now, "key.delete", subject, stored.key.name);
        DeleteResult::Deleted
    }

    fn key_subject(&self, key: &ApiKey) -> String {
        match key.app.and_then(|app| self.app_name(app)) {
            Some(app) => format!("{app}/{}", key.id),
            None => key.id.to_string(),
        }
    }

    fn save_config(&mut self, save: SaveConfig, by: &Actor, now: Timestamp) -> ConfigSaved {
        let SaveConfig { app, spec, expected } = save;
        let Some(app) = self.config_cache.app_by_id(app) else { return ConfigSaved::NotFound };
        let before = self.config_cache.find_config(app.id, &spec.name);
        let mut open = None;
        loop {
            match save::save((app.id, &app.name), before.as_ref(), &spec, expected, open, now) {
                SaveDecision::Write(change) => return self.write_config(*change, by, now),
                SaveDecision::Refused(refusal) => return refusal.into(),
                SaveDecision::CountOpen(config) => open = Some(self.rows.open_of(config).count()),
            }
        }
    }

    fn hold_config(&mut self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> ConfigSaved {
        let Some(before) = self.config_cache.config(id) else { return ConfigSaved::NotFound };
        self.write_config(save::hold(before, hold, &by.0, now), by, now)
    }

    fn write_config(&mut self, change: ConfigWrite, by: &Actor, now: Timestamp) -> ConfigSaved {
        let ConfigWrite { before, mut after, action, detail, cursor } = change;
        if before.is_none() {
            after.id = ConfigId::new(self.next_id());
        }
        match cursor {
            CursorChange::Make => {
                self.cursors.entry(after.id).or_insert(Cursor::new(after.id));
            }
            CursorChange::Drop => {
                self.cursors.remove(&after.id);
            }
            CursorChange::Unchanged => {}
        }
        let after = Arc::new(after);
        let seq = self.next_seq();
        self.config_cache.put_config(after.clone(), seq);
        self.config_cache.reach(seq);
        self.note(by, now, action, after.subject(), detail);
        if before.is_none() { ConfigSaved::Created(after) } else { ConfigSaved::Updated(after) }
    }

    fn delete_config(
        &mut self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> DeleteResult {
        let Some(before) = self.config_cache.config(id) else { return DeleteResult::NotFound };
        if let Err(refusal) = save::delete(&before, expected, self.rows.open_of(id).count()) {
            return refusal.into();
        }
        self.cursors.remove(&id);
        let seq = self.next_seq();
        self.config_cache.remove_config(id, seq);
        self.config_cache.reach(seq);
        self.note(by, now, "config.delete", before.subject(), "");
        DeleteResult::Deleted
    }
}
