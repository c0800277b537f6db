//! Apps, the tenants (API.md section 2).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Time;

/// The most characters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 2_000;
/// The most characters of an owner.
pub const OWNER_CHARS_MAX: usize = 200;

/// An app as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct App {
    pub name: String,
    pub description: String,
    pub owner: String,
    pub created_at: Time,
    pub updated_at: Time,
}

/// A new app, or what a change of one may send: then `name` may only repeat what it is, and null puts a
/// field back to empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewApp {
    #[schema(required, nullable = false, pattern = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2000, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub owner: Option<String>,
}

/// A change of an app, as an RFC 7396 merge: what is absent stays, null is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AppPatch {
    /// Never changes; may be sent back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(with = "crate::patch", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 2000, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub description: Option<Option<String>>,
    #[serde(with = "crate::patch", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 200, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    pub owner: Option<Option<String>>,
    /// Ignored, so that what was read may be sent back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub created_at: Option<Time>,
    /// Ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub updated_at: Option<Time>,
}
