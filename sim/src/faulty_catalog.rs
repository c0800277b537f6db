//! The catalog through weather.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, Deleted, Expected,
    Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::Park;
use tsp_store::tasks::Actor;
use tsp_store::{ConfigCache, IdSlots, Result};

use crate::faulty_store::FaultyStore;

#[async_trait]
impl Catalog for FaultyStore {
    fn config_cache(&self) -> &Arc<ConfigCache> {
        self.inner.config_cache()
    }

    fn shards(&self) -> u16 {
        self.inner.shards()
    }

    async fn refresh(&self) -> Result<()> {
        let inner = self.inner.clone();
        self.read("refresh", async move { inner.refresh().await }).await
    }

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("create_app", vec![], async move { inner.create_app(app, idempotency, &by, now).await })
            .await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("update_app", vec![], async move { inner.update_app(id, edit, &by, now).await }).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("delete_app", vec![], async move { inner.delete_app(id, &by, now).await }).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("create_key", vec![], async move { inner.create_key(key, &by, now).await }).await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        let inner = self.inner.clone();
        self.read("keys", async move { inner.keys(app).await }).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let (inner, hash) = (self.inner.clone(), *hash);
        self.read("key_by_hash", async move { inner.key_by_hash(&hash).await }).await
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("delete_key", vec![], async move { inner.delete_key(app, id, &by, now).await }).await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("save_config", vec![], async move { inner.save_config(save, idempotency, &by, now).await })
            .await
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let (inner, by) = (self.inner.clone(), by.clone());
        self.write("hold_config", vec![], async move { inner.hold_config(id, hold, &by, now).await }).await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        let (inner, by) = (self.inner.clone(), by.clone());
        let work = async move { inner.delete_config(id, expected, &by, now).await };
        self.write("delete_config", vec![], work).await
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        let inner = self.inner.clone();
        self.read("parked", async move { inner.parked(id, now).await }).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        let inner = self.inner.clone();
        self.write("unpark", vec![], async move { inner.unpark(id, now).await }).await
    }
}

#[async_trait]
impl IdSlots for FaultyStore {
    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        let inner = self.inner.clone();
        self.write("renew_id_slot", vec![], async move { inner.renew_id_slot(slot, until).await }).await
    }
}

#[async_trait]
impl AuditLog for FaultyStore {
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        let inner = self.inner.clone();
        self.read("audit_log", async move { inner.audit_log(limit).await }).await
    }
}

#[async_trait]
impl ConfigBarrier for FaultyStore {
    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        let inner = self.inner.clone();
        self.read("applied_by_all", async move { inner.applied_by_all(seq).await }).await
    }
}
