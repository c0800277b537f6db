//! The service itself (API.md sections 4 and 6).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Length;
use crate::time::Time;

/// The answer of `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// `ok` or `ready`.
    pub status: String,
}

/// Moves the virtual clock of a development server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdvanceClock {
    /// How far, such as `3d`; at most ten years.
    #[schema(required, nullable = false)]
    pub advance: Option<Length>,
}

/// Where the virtual clock is after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdvancedClock {
    pub now: Time,
    /// How many callbacks were started on the way.
    pub fired: u64,
}
