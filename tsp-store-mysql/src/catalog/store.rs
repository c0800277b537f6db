//! The catalog: each method one transaction on the meta database.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::save::CursorChange;
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, Catalog, ConfigBarrier, ConfigSaved, DeleteResult, ExpectedVersion, Hold,
    NewApp, NewKey, SaveConfig,
};
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::Result;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::Park;
use tsp_store::tasks::Actor;

use crate::MySqlStore;
use crate::catalog::apps;
use crate::catalog::change_log::change;
use crate::catalog::configs;
use crate::catalog::configs::Authorship;
use crate::catalog::follow;
use crate::catalog::keys;
use crate::connection::session::query;
use crate::fetching::parks;
use crate::tasks::cancel;
use crate::tasks::idempotency::MetaRequest;

const BEHIND: &str = "-- nodes_behind\nSELECT COUNT(*) FROM node WHERE dead_at IS NULL AND config_seq < ?";

#[async_trait]
impl Catalog for MySqlStore {
    fn config_cache(&self) -> &Arc<ConfigCache> {
        &self.context.config_cache
    }

    async fn refresh(&self) -> Result<()> {
        follow::refresh(&self.context, &self.shared_refresh).await
    }

    fn shards(&self) -> u16 {
        self.context.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>> {
        let (context, app, request) = (&*self.context, &app, &MetaRequest::new(idempotency));
        change(context, "create_app", |tx| {
            Box::pin(async move {
                if let Some(kept) = request.find(tx, context, now).await? {
                    return Ok((kept, None));
                }
                let (saved, edit) = apps::create_app(tx, context, app, by, now).await?;
                request.put(tx, context, &saved).await?;
                Ok((IdempotencyResult::Fresh(saved), edit))
            })
        })
        .await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        let (context, edit) = (&*self.context, &edit);
        change(context, "update_app", |tx| Box::pin(apps::update_app(tx, context, id, edit, by, now))).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<DeleteResult> {
        let context = &*self.context;
        change(context, "delete_app", |tx| Box::pin(apps::delete_app(tx, context, id, by, now))).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        let (context, key) = (&*self.context, &key);
        change(context, "create_key", |tx| {
            Box::pin(async move { Ok((keys::create_key(tx, context, key, by, now).await?, None)) })
        })
        .await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        keys::keys(&self.context, app).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        keys::key_by_hash(&self.context, hash).await
    }

    async fn delete_key(
        &self,
        app: Option<AppId>,
        id: KeyId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        let context = &*self.context;
        change(context, "delete_key", |tx| {
            Box::pin(async move { Ok((keys::delete_key(tx, context, app, id, by, now).await?, None)) })
        })
        .await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        let (context, save, request) = (&*self.context, &save, &MetaRequest::new(idempotency));
        let mut open = None;
        loop {
            let saved = change(context, "save_config", |tx| {
                Box::pin(async move {
                    if let Some(kept) = request.find(tx, context, now).await? {
                        return Ok((Ok(kept), None));
                    }
                    match configs::save_config(tx, context, save, open, Authorship { by, now }).await? {
                        Ok((saved, edit)) => {
                            request.put(tx, context, &saved).await?;
                            Ok((Ok(IdempotencyResult::Fresh(saved)), edit))
                        }
                        Err(uncounted) => Ok((Err(uncounted), None)),
                    }
                })
            });
            match saved.await? {
                Ok(saved) => {
                    if let IdempotencyResult::Fresh(
                        ConfigSaved::Created(config) | ConfigSaved::Updated(config),
                    ) = &saved
                    {
                        configs::initialise_cursor(context, config.id, CursorChange::of(&config.spec)).await;
                    }
                    return Ok(saved);
                }
                // While the catalog is not locked: other changes do not wait for the shards.
                Err(config) => open = Some((config, cancel::open_count(context, config).await?)),
            }
        }
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let (context, hold) = (&*self.context, &hold);
        change(context, "hold_config", |tx| {
            Box::pin(configs::hold_config(tx, context, id, hold, Authorship { by, now }))
        })
        .await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult> {
        let context = &*self.context;
        // Before the catalog is locked: other changes do not wait for the shards.
        let open = cancel::open_count(context, id).await?;
        let deleted = change(context, "delete_config", |tx| {
            Box::pin(configs::delete_config(tx, context, id, expected, open, Authorship { by, now }))
        })
        .await?;
        if deleted == DeleteResult::Deleted {
            configs::initialise_cursor(context, id, CursorChange::Drop).await;
        }
        Ok(deleted)
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        parks::parked(&self.context, id, now).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        parks::unpark(&self.context, id, now).await
    }
}

#[async_trait]
impl ConfigBarrier for MySqlStore {
    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        let sql = &self.context.meta.sql(BEHIND);
        let row = self.context.meta.read("applied_by_all", |tx| {
            Box::pin(async move { query(sql).bind(seq).fetch_one(tx.conn()).await })
        });
        Ok(row.await?.get::<i64>(0)? == 0)
    }
}
