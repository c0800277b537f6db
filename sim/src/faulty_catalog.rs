//! The catalog through weather.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::{AppId, ConfigId, KeyId, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, DeleteResult,
    ExpectedVersion, Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::Park;
use tsp_store::tasks::Actor;
use tsp_store::{ConfigCache, IdSlots, Result, forward};

use crate::faulty_store::FaultyStore;

#[async_trait]
impl Catalog for FaultyStore {
    forward!(inner: config_cache shards);
    forward!(inner, by read: refresh keys key_by_hash parked);
    forward!(inner, by write:
        create_app update_app delete_app create_key delete_key save_config hold_config delete_config unpark
    );
}

#[async_trait]
impl IdSlots for FaultyStore {
    forward!(inner, by write: renew_id_slot);
}

#[async_trait]
impl AuditLog for FaultyStore {
    forward!(inner, by read: audit_log);
}

#[async_trait]
impl ConfigBarrier for FaultyStore {
    forward!(inner, by read: applied_by_all);
}
