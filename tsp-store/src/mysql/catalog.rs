//! The catalog: each method one transaction on the meta database.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row as _;
use tsp_core::config::save::CursorChange;
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};

use crate::book::ConfigBook;
use crate::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, Catalog, ConfigSaved, Deleted, Expected, Hold, NewApp, NewKey,
    SaveConfig,
};
use crate::error::Result;
use crate::idempotency::{Keep, Kept};
use crate::parks::Park;
use crate::tasks::Actor;

use super::change::change;
use super::configs::Deed;
use super::kept_meta::Keeping;
use super::session::query;
use super::{MySqlStore, apps, audit_log, configs, id_slots, keys, parks, refresh};

const BEHIND: &str = "-- nodes_behind\nSELECT COUNT(*) FROM node WHERE dead_at IS NULL AND config_seq < ?";

#[async_trait]
impl Catalog for MySqlStore {
    fn book(&self) -> &Arc<ConfigBook> {
        &self.core.book
    }

    async fn refresh(&self) -> Result<()> {
        refresh::refresh(&self.core, &self.looks).await
    }

    fn shards(&self) -> u16 {
        self.core.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        keep: Option<Keep<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<AppSaved>> {
        let (core, app, keeping) = (&*self.core, &app, &Keeping::new(keep));
        change(core, "create_app", |tx| {
            Box::pin(async move {
                if let Some(kept) = keeping.find(tx, core, now).await? {
                    return Ok((kept, None));
                }
                let (saved, edit) = apps::create_app(tx, core, app, by, now).await?;
                keeping.put(tx, core, &saved).await?;
                Ok((Kept::Fresh(saved), edit))
            })
        })
        .await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        let (core, edit) = (&*self.core, &edit);
        change(core, "update_app", |tx| Box::pin(apps::update_app(tx, core, id, edit, by, now))).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let core = &*self.core;
        change(core, "delete_app", |tx| Box::pin(apps::delete_app(tx, core, id, by, now))).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        let (core, key) = (&*self.core, &key);
        change(core, "create_key", |tx| {
            Box::pin(async move { Ok((keys::create_key(tx, core, key, by, now).await?, None)) })
        })
        .await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        keys::keys(&self.core, app).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        keys::key_by_hash(&self.core, hash).await
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let core = &*self.core;
        change(core, "delete_key", |tx| {
            Box::pin(async move { Ok((keys::delete_key(tx, core, app, id, by, now).await?, None)) })
        })
        .await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        keep: Option<Keep<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<ConfigSaved>> {
        let (core, save, keeping) = (&*self.core, &save, &Keeping::new(keep));
        let mut open = None;
        loop {
            let saved = change(core, "save_config", |tx| {
                Box::pin(async move {
                    if let Some(kept) = keeping.find(tx, core, now).await? {
                        return Ok((Ok(kept), None));
                    }
                    match configs::save_config(tx, core, save, open, Deed { by, now }).await? {
                        Ok((saved, edit)) => {
                            keeping.put(tx, core, &saved).await?;
                            Ok((Ok(Kept::Fresh(saved)), edit))
                        }
                        Err(uncounted) => Ok((Err(uncounted), None)),
                    }
                })
            });
            match saved.await? {
                Ok(saved) => {
                    if let Kept::Fresh(ConfigSaved::Created(config) | ConfigSaved::Updated(config)) = &saved {
                        configs::settle_cursor(core, config.id, CursorChange::of(&config.spec)).await;
                    }
                    return Ok(saved);
                }
                // While the catalog is not locked: other changes do not wait for the shards.
                Err(config) => open = Some((config, configs::open_count(core, config).await?)),
            }
        }
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let (core, hold) = (&*self.core, &hold);
        change(core, "hold_config", |tx| Box::pin(configs::hold_config(tx, core, id, hold, Deed { by, now })))
            .await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        let core = &*self.core;
        // Before the catalog is locked: other changes do not wait for the shards.
        let open = configs::open_count(core, id).await?;
        let deleted = change(core, "delete_config", |tx| {
            Box::pin(configs::delete_config(tx, core, id, expected, open, Deed { by, now }))
        })
        .await?;
        if deleted == Deleted::Deleted {
            configs::settle_cursor(core, id, CursorChange::Drop).await;
        }
        Ok(deleted)
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        parks::parked(&self.core, id, now).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        parks::unpark(&self.core, id, now).await
    }

    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        id_slots::renew_id_slot(&self.core, slot, until).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        audit_log::audit_log(&self.core, limit).await
    }

    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        let sql = &self.core.meta.sql(BEHIND);
        let row = self.core.meta.read("applied_by_all", |tx| {
            Box::pin(async move { query(sql).bind(seq).fetch_one(tx.conn()).await })
        });
        Ok(row.await?.try_get::<i64, _>(0)? == 0)
    }
}
