//! What a change of a config did beside what it was asked for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub code: NoticeCode,
    /// For people.
    pub message: String,
    /// Of what it speaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeCode {
    /// The URL leads to another origin, and these secret headers, which were not given anew, did not go with it.
    SecretHeadersDropped,
}

impl Notice {
    /// `names` are not empty.
    pub fn secret_headers_dropped(names: Vec<String>) -> Self {
        let message = "the URL leads to another origin, so these secret headers were removed; send them again if they belong there";
        Self { code: NoticeCode::SecretHeadersDropped, message: message.to_owned(), names }
    }
}
