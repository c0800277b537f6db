//! Schedules of configs.

use serde::{Deserialize, Serialize};
use tsp_core::schedule::{CronSpec, Dialect, Every, Misfire, MisfirePolicy, Overlap, Schedule, Trigger};
use tsp_core::{Millis, Timestamp};

use super::{CodecResult, by_word};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScheduleDoc {
    trigger: TriggerDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_at: Option<i64>,
    misfire: MisfireDoc,
    overlap: OverlapDoc,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TriggerDoc {
    Cron { expr: String, dialect: String, timezone: String },
    Every { interval: i64, anchor: i64 },
}

#[derive(Debug, Serialize, Deserialize)]
struct MisfireDoc {
    policy: PolicyDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    grace: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PolicyDoc {
    FireOnce,
    FireAll,
    Skip,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OverlapDoc {
    Allow,
    Skip,
    QueueOne,
}

impl From<&Schedule> for ScheduleDoc {
    fn from(schedule: &Schedule) -> Self {
        let trigger = match &schedule.trigger {
            Trigger::Cron(spec) => TriggerDoc::Cron {
                expr: spec.expr().to_owned(),
                dialect: spec.dialect().as_str().to_owned(),
                timezone: spec.timezone().to_owned(),
            },
            Trigger::Every(every) => {
                TriggerDoc::Every { interval: every.interval.ms(), anchor: every.anchor.ms() }
            }
        };
        let (policy, max) = match schedule.misfire.policy {
            MisfirePolicy::FireOnce => (PolicyDoc::FireOnce, None),
            MisfirePolicy::FireAll { max } => (PolicyDoc::FireAll, Some(max)),
            MisfirePolicy::Skip => (PolicyDoc::Skip, None),
        };
        Self {
            trigger,
            start_at: schedule.start_at.map(Timestamp::ms),
            end_at: schedule.end_at.map(Timestamp::ms),
            misfire: MisfireDoc { policy, max, grace: schedule.misfire.grace.ms() },
            overlap: match schedule.overlap {
                Overlap::Allow => OverlapDoc::Allow,
                Overlap::Skip => OverlapDoc::Skip,
                Overlap::QueueOne => OverlapDoc::QueueOne,
            },
        }
    }
}

impl ScheduleDoc {
    /// # Errors
    /// A cron expression or zone that this binary does not read any more.
    pub(super) fn into_schedule(self) -> CodecResult<Schedule> {
        let trigger = match self.trigger {
            TriggerDoc::Cron { expr, dialect, timezone } => {
                let dialect = by_word(&[Dialect::Quartz, Dialect::Unix], &dialect, Dialect::as_str)?;
                let spec = CronSpec::parse(&expr, Some(dialect), &timezone).map_err(|e| e.to_string())?;
                Trigger::Cron(spec)
            }
            TriggerDoc::Every { interval, anchor } => Trigger::Every(Every {
                interval: Millis::from_ms(interval),
                anchor: Timestamp::from_ms(anchor),
            }),
        };
        let policy = match (self.misfire.policy, self.misfire.max) {
            (PolicyDoc::FireOnce, _) => MisfirePolicy::FireOnce,
            (PolicyDoc::Skip, _) => MisfirePolicy::Skip,
            (PolicyDoc::FireAll, Some(max)) => MisfirePolicy::FireAll { max },
            (PolicyDoc::FireAll, None) => return Err("`fire_all` without `max`".to_owned()),
        };
        Ok(Schedule {
            trigger,
            start_at: self.start_at.map(Timestamp::from_ms),
            end_at: self.end_at.map(Timestamp::from_ms),
            misfire: Misfire { policy, grace: Millis::from_ms(self.misfire.grace) },
            overlap: match self.overlap {
                OverlapDoc::Allow => Overlap::Allow,
                OverlapDoc::Skip => Overlap::Skip,
                OverlapDoc::QueueOne => Overlap::QueueOne,
            },
        })
    }
}
