//! API keys (API.md sections 1 and 2).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Length;
use crate::id::Id;
use crate::time::Time;

/// The most characters of a key's name.
pub const KEY_NAME_CHARS_MAX: usize = 100;
/// The most requests of a rate limit.
pub const RATE_COUNT_MAX: u32 = 1_000_000;

/// What a key may do. `manage` includes `read` and `submit`, `admin` includes `manage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The GETs of its app.
    Read,
    /// Submit, and get, cancel, pause, resume, postpone and run tasks.
    Submit,
    /// Both, and configs, replay, bulk.
    Manage,
    /// All of its app, and its keys.
    Admin,
    /// Worker calls.
    Worker,
}

/// At most `count` requests per `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    #[serde(default)]
    #[schema(required, nullable = false, minimum = 1, maximum = 1_000_000)]
    pub count: Option<u32>,
    #[serde(default)]
    #[schema(required, nullable = false)]
    pub per: Option<Length>,
}

/// A key to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewKey {
    #[schema(
        required,
        nullable = false,
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
    )]
    pub name: Option<String>,
    #[schema(required, nullable = false, min_items = 1)]
    pub scopes: Option<Vec<Scope>>,
    /// In the future; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// A key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    pub id: Id,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The first characters of the key, to tell keys apart.
    pub prefix: String,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub rate_limit: Option<RateLimit>,
}

/// A new key, with the secret that is never shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// Send it as `Authorization: Bearer <key>`. Only its hash is kept.
    pub key: String,
    #[serde(flatten)]
    pub about: Key,
}
