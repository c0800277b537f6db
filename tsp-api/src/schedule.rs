//! Schedules and their fire times (API.md section 2).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Length;
use crate::time::Time;

/// When a `cron` config fires by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// By the calendar of a time zone.
    Cron {
        /// Such as `0 0 2 * * ?` (quartz) or `0 2 * * *` (unix).
        #[serde(default)]
        #[schema(required, nullable = false, max_length = 128)]
        expr: Option<String>,
        /// By default five fields are unix, six and seven quartz.
        #[serde(default)]
        dialect: Option<Dialect>,
        /// An IANA name, such as `Asia/Shanghai`. There is no default.
        #[serde(default)]
        #[schema(required, nullable = false)]
        timezone: Option<String>,
        /// No slot before it exists.
        #[serde(default)]
        start_at: Option<Time>,
        /// No slot after it exists.
        #[serde(default)]
        end_at: Option<Time>,
        #[serde(default)]
        misfire: Option<Misfire>,
        #[serde(default)]
        overlap: Option<Overlap>,
    },
    /// At fixed intervals.
    Every {
        /// At least one second.
        #[serde(default)]
        #[schema(required, nullable = false)]
        interval: Option<Length>,
        /// Slots lie at whole intervals from it; by default 1970-01-01T00:00:00Z.
        #[serde(default)]
        anchor: Option<Time>,
        #[serde(default)]
        start_at: Option<Time>,
        #[serde(default)]
        end_at: Option<Time>,
        #[serde(default)]
        misfire: Option<Misfire>,
        #[serde(default)]
        overlap: Option<Overlap>,
    },
}

/// How an expression is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    Quartz,
    Unix,
}

/// What happens to slots that were missed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Misfire {
    pub policy: Option<MisfirePolicy>,
    /// The most slots made up for; with `fire_all` only, and needed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub max: Option<u32>,
    /// How late a slot still counts as on time.
    pub grace: Option<Length>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// The newest missed slot.
    FireOnce,
    /// Every missed slot, at most the newest `max`.
    FireAll,
    /// None that is later than the grace.
    Skip,
}

/// What a slot does while the previous occurrence is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    Allow,
    Skip,
    QueueOne,
}

/// Asks when a schedule that is not saved yet would fire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewSchedule {
    #[schema(required, nullable = false)]
    pub schedule: Option<Schedule>,
    /// How many fires, 1 to 100; by default 10.
    #[schema(minimum = 1, maximum = 100)]
    pub count: Option<u32>,
    /// Fires strictly after it; by default now.
    pub from: Option<Time>,
}

/// The next fires of a schedule; fewer than asked for when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fires {
    pub items: Vec<Fire>,
    /// Says so when it never fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fire {
    pub at: Time,
    /// On the clock of the schedule's zone, with its offset then.
    #[schema(format = DateTime)]
    pub local: String,
    /// Where daylight saving moves, repeats or drops a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
