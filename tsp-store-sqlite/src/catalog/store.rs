//! Apps, keys and configs, as the trait has them.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, Catalog, ConfigBarrier, ConfigSaved, DeleteResult, ExpectedVersion, Hold,
    NewApp, NewKey, SaveConfig,
};
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::Result;
use tsp_store::fetching::FetcherStore as _;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::tasks::Actor;

use crate::SqliteStore;
use crate::catalog::apps;
use crate::catalog::configs;
use crate::catalog::keys;
use crate::connection::command::Command;
use crate::fetching::parks;
use crate::tasks::idempotency::idempotent;

#[async_trait]
impl Catalog for SqliteStore {
    fn config_cache(&self) -> &Arc<ConfigCache> {
        &self.shared.config_cache
    }

    fn shards(&self) -> u16 {
        self.shared.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>> {
        let by = by.clone();
        self.write(Command::CreateApp, 1, move |tx| {
            idempotent(tx, idempotency, now, |tx| apps::create_app(tx, app, &by, now))
        })
        .await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        let by = by.clone();
        self.write(Command::UpdateApp, 1, move |tx| apps::update_app(tx, id, edit, &by, now)).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<DeleteResult> {
        let by = by.clone();
        self.write(Command::DeleteApp, 1, move |tx| apps::delete_app(tx, id, &by, now)).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        let by = by.clone();
        self.write(Command::CreateKey, 1, move |tx| keys::create_key(tx, key, &by, now)).await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        self.read(Command::Keys, move |conn| keys::keys(conn, app)).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let hash = *hash;
        self.read(Command::KeyByHash, move |conn| keys::key_by_hash(conn, &hash)).await
    }

    async fn delete_key(
        &self,
        app: Option<AppId>,
        id: KeyId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        let by = by.clone();
        self.write(Command::DeleteKey, 1, move |tx| keys::delete_key(tx, app, id, &by, now)).await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        let by = by.clone();
        self.write(Command::SaveConfig, 1, move |tx| {
            idempotent(tx, idempotency, now, |tx| configs::save_config(tx, save, &by, now))
        })
        .await
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let by = by.clone();
        self.write(Command::HoldConfig, 1, move |tx| configs::hold_config(tx, id, hold, &by, now)).await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        let by = by.clone();
        self.write(Command::DeleteConfig, 1, move |tx| configs::delete_config(tx, id, expected, &by, now))
            .await
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.read(Command::Parks, move |conn| parks::parked(conn, id, now)).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        if self.parked(id, now).await?.is_none() {
            return Ok(());
        }
        self.save_parks(vec![ParkEvent::Ended { config: id, at: now }]).await
    }

    async fn refresh(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ConfigBarrier for SqliteStore {
    async fn applied_by_all(&self, _seq: i64) -> Result<bool> {
        Ok(true)
    }
}
