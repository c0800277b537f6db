//! Parts of a config that are described but not built yet. They are read whole, so that the default, which
//! is shown, may be sent back.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::duration::Length;

/// How much is called back at a time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Callbacks started per `loop`; null is unlimited.
    pub task_per_loop: Option<u32>,
    #[serde(rename = "loop")]
    pub period: Option<Length>,
    /// Callbacks running at once; null is unlimited.
    pub max_concurrency: Option<u32>,
    /// A pool of the app, shared by configs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submit_rate: Option<SubmitRate>,
    pub adaptive: Option<Adaptive>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubmitRate {
    pub count: Option<u32>,
    pub per: Option<Length>,
}

/// A limit that follows the callee's response time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adaptive {
    pub enabled: Option<bool>,
    pub min: Option<u32>,
    pub target_rt: Option<Length>,
}

/// When an occurrence of several parts has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Join {
    All {},
    AnyFailedFast {},
    Quorum {
        #[serde(default)]
        n: Option<u16>,
    },
}

/// Who is told what became of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Notify {
    pub on: Vec<String>,
    pub target: Value,
}
