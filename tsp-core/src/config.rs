//! How a family of tasks is called back (DESIGN.md section 5.1).

pub mod save;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{AppId, ConfigId};
use crate::name::Name;
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;
use crate::time::{Millis, Timestamp};

/// A config as every role sees it. Parts of DESIGN.md 5.1 that are not built yet (limits, notify,
/// fan-out) are refused at the API unless they have their default, so they are not here.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    pub id: ConfigId,
    pub app_id: AppId,
    pub app: Name,
    pub spec: ConfigSpec,
    pub paused: Option<Paused>,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    /// When `version` came to be: no schedule fires a slot from before it.
    pub updated_at: Timestamp,
}

impl TaskConfig {
    /// How the audit log names it.
    pub fn subject(&self) -> String {
        format!("{}/{}", self.app, self.spec.name)
    }

    /// Whether its tasks may begin and its schedule fire.
    pub fn runnable(&self) -> bool {
        self.spec.enabled && self.paused.is_none()
    }
}

/// What the owner of a config writes.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSpec {
    pub name: Name,
    pub kind: Kind,
    pub description: String,
    pub owner: String,
    pub labels: BTreeMap<String, String>,
    pub target: Target,
    pub schedule: Option<Schedule>,
    pub retry: RetryPolicy,
    pub timeout: Timeouts,
    pub asynchronous: AsyncPolicy,
    /// The default payload, raw JSON.
    pub payload: Option<Bytes>,
    /// 0..=4, higher first.
    pub priority: u8,
    pub queue: Name,
    pub group: Name,
    /// Over how many storage shards its tasks spread; 0 = all.
    pub span: u16,
    pub on_duplicate_key: OnDuplicateKey,
    pub expire_after: Option<Millis>,
    /// How long ended tasks are kept.
    pub retention: Millis,
    pub visibility: Visibility,
    /// Newest first, at most three.
    pub signing_secrets: Vec<Secret>,
    pub enabled: bool,
}

impl ConfigSpec {
    /// An enabled delayed config with the contract's default for all else (API.md section 2).
    pub fn new(name: Name, target: HttpTarget) -> Self {
        Self {
            name,
            kind: Kind::Delayed,
            description: String::new(),
            owner: String::new(),
            labels: BTreeMap::new(),
            target: Target::Http(Arc::new(target)),
            schedule: None,
            retry: RetryPolicy::default(),
            timeout: Timeouts::default(),
            asynchronous: AsyncPolicy::default(),
            payload: None,
            priority: PRIORITY_DEFAULT,
            queue: Name::default_name(),
            group: Name::default_name(),
            span: 1,
            on_duplicate_key: OnDuplicateKey::default(),
            expire_after: None,
            retention: RETENTION_DEFAULT,
            visibility: Visibility::default(),
            signing_secrets: Vec::new(),
            enabled: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tasks come by submit.
    Delayed,
    /// Tasks come by schedule.
    Cron,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Cron => "cron",
        }
    }
}

/// Where a callback goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Http(Arc<HttpTarget>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct HttpTarget {
    /// An upper-case HTTP method.
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    /// Write-only: never shown, exported or logged.
    pub secret_headers: BTreeMap<String, Secret>,
    pub tls: Option<TargetTls>,
}

/// Certificates of a target's own, all in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetTls {
    /// The authorities that its certificate may come from, in place of the public ones.
    pub ca: Option<String>,
    /// What the service shows of itself: its certificate and those that lead to an authority.
    pub cert: Option<String>,
    /// The private key of `cert`. Write-only.
    pub key: Option<Secret>,
}

impl HttpTarget {
    /// A `POST` without headers.
    pub fn post(url: &str) -> Self {
        Self {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            tls: None,
        }
    }
}

/// A text that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Per attempt; `total` holds connect and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Millis,
    pub total: Millis,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Millis::from_secs(2), total: Millis::from_secs(10) }
    }
}

/// Whether a 202 means "I will complete by API", and by when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncPolicy {
    pub enabled: bool,
    pub deadline: Millis,
}

impl Default for AsyncPolicy {
    fn default() -> Self {
        Self { enabled: false, deadline: Millis::from_mins(15) }
    }
}

/// What a submit with the key of an open task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDuplicateKey {
    #[default]
    Ignore,
    Reset,
    Add,
}

impl OnDuplicateKey {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Reset => "reset",
            Self::Add => "add",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    Private,
    #[default]
    App,
    Public,
}

impl Visibility {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::App => "app",
            Self::Public => "public",
        }
    }
}

/// Who holds a config, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    pub by: String,
    pub at: Timestamp,
    pub note: Option<String>,
}

/// The default of `retention` (API.md section 2).
pub const RETENTION_DEFAULT: Millis = Millis::from_days(7);
pub const RETENTION_MAX: Millis = Millis::from_days(3_650);
/// The default of `priority`.
pub const PRIORITY_DEFAULT: u8 = 2;
pub const PRIORITY_MAX: u8 = 4;
