//! Configs: how a family of tasks is called back (API.md section 2).

mod limits;
mod notice;
mod policy;
mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use limits::{Adaptive, Join, Limits, Notify, SubmitRate};
pub use notice::{Notice, NoticeCode};
pub use policy::{AsyncCalls, Backoff, Retry, Timeout};
pub use target::{HttpTarget, HttpTls, Method, TARGETS_PLANNED, TLS_PEM_BYTES_MAX, Target};

use crate::duration::Length;
use crate::schedule::Schedule;
use crate::time::Time;

/// The most labels of a config, and the most characters of a label's name and value.
pub const LABELS_MAX: usize = 32;
pub const LABEL_NAME_CHARS_MAX: usize = 63;
pub const LABEL_VALUE_CHARS_MAX: usize = 200;
/// The most signing secrets of a config.
pub const SIGNING_SECRETS_MAX: usize = 3;

/// A config. `name`, `kind` and `target` are enough; what is absent or null has its default. It is shown
/// with all its fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Never changes. In a PUT it may be left to the path.
    #[schema(pattern = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
    pub name: Option<String>,
    /// Never changes.
    #[schema(nullable = false)]
    pub kind: Option<Kind>,
    #[schema(max_length = 2000, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub description: Option<String>,
    #[schema(max_length = 200, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub target: Option<Target>,
    /// Needed by `cron`, refused by `delayed`.
    pub schedule: Option<Schedule>,
    pub retry: Option<Retry>,
    pub timeout: Option<Timeout>,
    #[serde(rename = "async")]
    pub asynchronous: Option<AsyncCalls>,
    /// Not supported yet: only the defaults are taken.
    pub limits: Option<Limits>,
    /// The body of callbacks whose submit brings none. Kept byte for byte.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub labels: Option<BTreeMap<String, Option<String>>>,
    /// Higher goes first.
    #[schema(minimum = 0, maximum = 4)]
    pub priority: Option<u8>,
    /// Not supported yet: only `default` is taken.
    pub queue: Option<String>,
    /// Which fetchers schedule it: those whose `fetcher.groups` has this name. At most 45 characters.
    #[schema(max_length = 45, pattern = "^[a-z0-9]([a-z0-9._-]{0,43}[a-z0-9])?$")]
    pub group: Option<String>,
    /// Over how many storage shards its tasks spread; 0 is all.
    #[schema(minimum = 0, maximum = 512)]
    pub span: Option<u16>,
    /// Not supported yet: only 1 is taken.
    #[schema(minimum = 1, maximum = 1000)]
    pub sharding_count: Option<u16>,
    /// Not supported yet: only `all` is taken.
    pub join: Option<Join>,
    pub on_duplicate_key: Option<OnDuplicateKey>,
    /// Counted from `execute_at`: a task that has not begun by then ends as expired.
    pub expire_after: Option<Length>,
    /// How long ended tasks are kept.
    pub retention: Option<Length>,
    pub visibility: Option<Visibility>,
    /// Not supported yet: only an empty list is taken.
    pub notify: Option<Vec<Notify>>,
    /// `whsec_` and base64 of 24 to 64 bytes, at most three; the first one is the newest. Never shown; left
    /// out of a PUT they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(write_only, max_items = 3)]
    pub signing_secrets: Option<Vec<String>>,
    pub enabled: Option<bool>,

    /// The app it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub app: Option<String>,
    /// Rises with every change; the `ETag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub created_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub updated_at: Option<Time>,
    /// Who holds it; null when nobody does.
    #[schema(read_only)]
    pub paused: Option<Paused>,
    /// The wait that its receiver asked for by `Retry-After`; null when there is none, absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Parked>, read_only)]
    pub parked: Option<Option<Parked>>,
    /// When its schedule fires next; null while it is held, disabled or has none.
    #[schema(read_only)]
    pub next_fire_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub signing_secret_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub secret_header_names: Option<Vec<String>>,
    /// What a change did beside what it was asked for; only in its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only, nullable = false)]
    pub notice: Option<Notice>,
}

/// [`Config`] as a POST must send it, for the OpenAPI document.
#[derive(Debug)]
pub struct NewConfig;

/// [`Config`] as a PUT must send it, for the OpenAPI document.
#[derive(Debug)]
pub struct ReplacedConfig;

/// [`Config`] as a PATCH may send it, for the OpenAPI document.
#[derive(Debug)]
pub struct ConfigPatch;

impl PartialSchema for ConfigPatch {
    fn schema() -> RefOr<Schema> {
        with_required(&[])
    }
}

impl ToSchema for ConfigPatch {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Config::schemas(schemas);
    }
}

impl PartialSchema for NewConfig {
    fn schema() -> RefOr<Schema> {
        with_required(&["name", "kind", "target"])
    }
}

impl ToSchema for NewConfig {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Config::schemas(schemas);
    }
}

impl PartialSchema for ReplacedConfig {
    fn schema() -> RefOr<Schema> {
        with_required(&["kind", "target"])
    }
}

impl ToSchema for ReplacedConfig {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Config::schemas(schemas);
    }
}

fn with_required(fields: &[&str]) -> RefOr<Schema> {
    let mut schema = Config::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required = fields.iter().map(|&field| field.to_owned()).collect();
    }
    schema
}

/// What others see of a config with `visibility: public`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublicConfig {
    pub app: String,
    pub name: String,
    pub kind: Kind,
    pub description: String,
    pub owner: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its tasks come by submit.
    Delayed,
    /// Its tasks come by its schedule.
    Cron,
}

/// What a submit with the key of an open task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicateKey {
    Ignore,
    Reset,
    Add,
}

/// Who may see a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Only keys that may manage configs know of it and its tasks.
    Private,
    /// All keys of the app do.
    App,
    /// Others see name, kind, description and owner, and may submit.
    Public,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    pub by: String,
    pub at: Time,
    #[serde(default)]
    pub note: Option<String>,
}

/// Nothing of a config begins before `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    pub until: Time,
    /// The id of the task whose callback was answered so.
    pub by: String,
}

/// Why a config is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HoldNote {
    #[schema(max_length = 500, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub note: Option<String>,
}

/// Runs a config by hand.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// In place of the config's own.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
}

/// The most characters of a note.
pub const NOTE_CHARS_MAX: usize = 500;
