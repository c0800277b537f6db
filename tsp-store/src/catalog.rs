//! Apps, API keys, configs and the audit log.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::config::save::{DeleteRefusal, SaveRefusal};
use tsp_core::config::{ConfigSpec, TaskConfig};
use tsp_core::{AppId, ConfigId, KeyId, Millis, Name, Timestamp};

use crate::config_cache::ConfigCache;
use crate::error::Result;
use crate::idempotency::{IdempotencyRequest, IdempotencyResult};
use crate::parks::Park;
use crate::tasks::Actor;

pub use tsp_core::config::save::{ExpectedVersion, Hold};

#[async_trait]
pub trait Catalog: Send + Sync {
    /// Apps and configs as committed; kept true by the store itself.
    fn config_cache(&self) -> &Arc<ConfigCache>;

    /// Returns when the config cache has all that was committed before the call, by whichever node. Cheap enough for
    /// whoever finds nothing under a name; it may take some tens of milliseconds when it is called often.
    async fn refresh(&self) -> Result<()>;

    /// The number of logical shards, fixed when the store was made.
    fn shards(&self) -> u16;

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>>;
    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved>;
    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<DeleteResult>;

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey>;
    /// Keys of an app, or the global ones; those that have expired too.
    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>>;
    /// By the SHA-256 of the whole key.
    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>>;
    async fn delete_key(
        &self,
        app: Option<AppId>,
        id: KeyId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult>;

    /// Creates (`expected` is [`ExpectedVersion::Absent`]) or replaces a config. A cron config's cursor is made,
    /// or left for the fetcher to recompute, in the same transaction.
    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>>;
    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved>;
    /// Refused while open tasks are left.
    async fn delete_config(
        &self,
        id: ConfigId,
        expected: ExpectedVersion,
        by: &Actor,
        now: Timestamp,
    ) -> Result<DeleteResult>;

    /// The wait that the receiver of a config has asked for, if it is not over.
    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>>;
    /// Ends such a wait on every shard that may hold tasks of the config. The owners learn it by an event, or
    /// at their next resync.
    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()>;
}

#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Newest first, at most `limit`; older entries than [`AUDIT_KEPT`] are dropped.
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>>;
}

#[async_trait]
pub trait ConfigBarrier: Send + Sync {
    /// Whether every node that is not dead has applied config change `seq` (config barrier); always in a
    /// store of one process.
    async fn applied_by_all(&self, seq: i64) -> Result<bool>;
}

/// How long an audit entry is kept: a year, and some weeks for whoever looks into it.
pub const AUDIT_KEPT: Millis = Millis::from_days(400);

/// The newest changes of an app or config that stay in the change log.
pub const CHANGES_KEPT: i64 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: AppId,
    pub name: Name,
    pub description: String,
    pub owner: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApp {
    pub name: Name,
    pub description: String,
    pub owner: String,
}

/// `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppEdit {
    pub description: Option<String>,
    pub owner: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AppSaved {
    Saved(Arc<App>),
    AlreadyExists,
    NotFound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteResult {
    Deleted,
    NotFound,
    /// An app with this many configs, or a config with this many open tasks.
    InUse(usize),
    VersionMismatch,
}

impl From<DeleteRefusal> for DeleteResult {
    fn from(refusal: DeleteRefusal) -> Self {
        match refusal {
            DeleteRefusal::VersionMismatch => Self::VersionMismatch,
            DeleteRefusal::InUse(open) => Self::InUse(open),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Read,
    Submit,
    Manage,
    Admin,
    Worker,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Read, Self::Submit, Self::Manage, Self::Admin, Self::Worker];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Manage => "manage",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Requests per time, for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub count: u32,
    pub per: tsp_core::Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// `None`: global.
    pub app: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// SHA-256 of the key; the key itself is never stored.
    pub hash: [u8; 32],
    /// The first characters, to tell keys apart.
    pub prefix: String,
    pub rate_limit: Option<RateLimit>,
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub app: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub prefix: String,
    pub rate_limit: Option<RateLimit>,
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct SaveConfig {
    pub app: AppId,
    pub spec: ConfigSpec,
    pub expected: ExpectedVersion,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConfigSaved {
    Created(Arc<TaskConfig>),
    Updated(Arc<TaskConfig>),
    AlreadyExists,
    VersionMismatch {
        version: i64,
    },
    /// `kind` never changes.
    KindChanged,
    /// `span` changes only while the config has no open task; it has so many.
    InUse(usize),
    NotFound,
}

impl From<SaveRefusal> for ConfigSaved {
    fn from(refusal: SaveRefusal) -> Self {
        match refusal {
            SaveRefusal::NotFound => Self::NotFound,
            SaveRefusal::AlreadyExists => Self::AlreadyExists,
            SaveRefusal::VersionMismatch { version } => Self::VersionMismatch { version },
            SaveRefusal::KindChanged => Self::KindChanged,
            SaveRefusal::InUse(open) => Self::InUse(open),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    /// `config.pause`, `task.cancel`, `key.create`, …
    pub action: String,
    /// `app/config`, a task id, …
    pub subject: String,
    pub detail: String,
}
