//! `schedule`.

use tsp_api::schedule as wire;
use tsp_api::{Errors, Length, Time};
use tsp_core::schedule::{
    CronSpec, Dialect, Every, Misfire, MisfirePolicy, Overlap, Schedule, ScheduleError, Trigger,
};
use tsp_core::{Millis, Timestamp};

/// The longest grace of a missed slot.
const GRACE_MAX: Millis = Millis::from_days(365);

/// `None` when something is wrong with it, which then stands in `errors`.
pub(crate) fn read_schedule(wire: wire::Schedule, errors: &mut Errors) -> Option<Schedule> {
    let parts = Parts::from(wire);
    let trigger = parts.trigger.read(errors);
    let misfire = read_misfire(&parts.misfire, errors);
    let mut schedule = Schedule::new(trigger?);
    schedule.start_at = parts.start_at;
    schedule.end_at = parts.end_at;
    schedule.misfire = misfire?;
    schedule.overlap = match parts.overlap {
        None => Overlap::default(),
        Some(wire::Overlap::Allow) => Overlap::Allow,
        Some(wire::Overlap::Skip) => Overlap::Skip,
        Some(wire::Overlap::QueueOne) => Overlap::QueueOne,
    };
    let problems = schedule.validate();
    let sound = problems.is_empty();
    for problem in problems {
        add(problem, errors);
    }
    sound.then_some(schedule)
}

/// A schedule that never fires is a mistake, unless it is the one that was saved and has ended since.
pub(crate) fn check_fires(schedule: &Schedule, now: Timestamp, errors: &mut Errors) {
    if schedule.next_after(now).is_none() {
        errors.add("schedule", "never fires from now on; check its days, its year and `end_at`");
    }
}

/// Both forms, taken apart.
struct Parts {
    trigger: WireTrigger,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    misfire: wire::Misfire,
    overlap: Option<wire::Overlap>,
}

enum WireTrigger {
    Cron { expr: Option<String>, dialect: Option<wire::Dialect>, timezone: Option<String> },
    Every { interval: Option<Length>, anchor: Option<Time> },
}

impl From<wire::Schedule> for Parts {
    fn from(wire: wire::Schedule) -> Self {
        match wire {
            wire::Schedule::Cron { expr, dialect, timezone, start_at, end_at, misfire, overlap } => Self {
                trigger: WireTrigger::Cron { expr, dialect, timezone },
                start_at: start_at.map(|at| at.0),
                end_at: end_at.map(|at| at.0),
                misfire: misfire.unwrap_or_default(),
                overlap,
            },
            wire::Schedule::Every { interval, anchor, start_at, end_at, misfire, overlap } => Self {
                trigger: WireTrigger::Every { interval, anchor },
                start_at: start_at.map(|at| at.0),
                end_at: end_at.map(|at| at.0),
                misfire: misfire.unwrap_or_default(),
                overlap,
            },
        }
    }
}

impl WireTrigger {
    fn read(self, errors: &mut Errors) -> Option<Trigger> {
        match self {
            Self::Cron { expr, dialect, timezone } => {
                read_cron(expr.as_deref(), dialect, timezone.as_deref(), errors)
            }
            Self::Every { interval, anchor } => {
                let Some(Length(interval)) = interval else {
                    errors.missing("schedule.interval");
                    return None;
                };
                let anchor = anchor.map_or(Timestamp::ZERO, |anchor| anchor.0);
                match Every::new(interval, anchor) {
                    Ok(every) => Some(Trigger::Every(every)),
                    Err(problem) => {
                        add(problem, errors);
                        None
                    }
                }
            }
        }
    }
}

fn read_cron(
    expr: Option<&str>,
    dialect: Option<wire::Dialect>,
    timezone: Option<&str>,
    errors: &mut Errors,
) -> Option<Trigger> {
    if expr.is_none() {
        errors.missing("schedule.expr");
    }
    if timezone.is_none() {
        errors.missing("schedule.timezone");
    }
    let dialect = dialect.map(|dialect| match dialect {
        wire::Dialect::Quartz => Dialect::Quartz,
        wire::Dialect::Unix => Dialect::Unix,
    });
    // With a stand-in for what is missing the other one is checked all the same.
    let parsed = CronSpec::parse(
        expr.unwrap_or("@daily"),
        if expr.is_some() { dialect } else { None },
        timezone.unwrap_or("UTC"),
    );
    match parsed {
        Ok(spec) => (expr.is_some() && timezone.is_some()).then_some(Trigger::Cron(spec)),
        Err(problem) => {
            let expr_is_wrong = problem.field == "expr";
            add(problem, errors);
            if expr_is_wrong
                && let Some(timezone) = timezone
                && let Err(problem) = CronSpec::parse("@daily", None, timezone)
            {
                add(problem, errors);
            }
            None
        }
    }
}

fn read_misfire(wire: &wire::Misfire, errors: &mut Errors) -> Option<Misfire> {
    let mut misfire = Misfire::default();
    if let Some(Length(grace)) = wire.grace {
        if grace > GRACE_MAX {
            errors.add("schedule.misfire.grace", "must be at most `365d`");
            return None;
        }
        misfire.grace = grace;
    }
    misfire.policy = match (wire.policy, wire.max) {
        (Some(wire::MisfirePolicy::FireAll), Some(max)) => MisfirePolicy::FireAll { max },
        (Some(wire::MisfirePolicy::FireAll), None) => {
            errors.missing("schedule.misfire.max");
            return None;
        }
        (_, Some(_)) => {
            errors.add("schedule.misfire.max", "belongs to the policy `fire_all` only");
            return None;
        }
        (Some(wire::MisfirePolicy::Skip), None) => MisfirePolicy::Skip,
        (Some(wire::MisfirePolicy::FireOnce) | None, None) => MisfirePolicy::FireOnce,
    };
    Some(misfire)
}

fn add(problem: ScheduleError, errors: &mut Errors) {
    errors.add(format!("schedule.{}", problem.field), problem.message);
}

pub(crate) fn write_schedule(schedule: &Schedule) -> wire::Schedule {
    let (policy, max) = match schedule.misfire.policy {
        MisfirePolicy::FireOnce => (wire::MisfirePolicy::FireOnce, None),
        MisfirePolicy::FireAll { max } => (wire::MisfirePolicy::FireAll, Some(max)),
        MisfirePolicy::Skip => (wire::MisfirePolicy::Skip, None),
    };
    let misfire =
        Some(wire::Misfire { policy: Some(policy), max, grace: Some(schedule.misfire.grace.into()) });
    let overlap = Some(match schedule.overlap {
        Overlap::Allow => wire::Overlap::Allow,
        Overlap::Skip => wire::Overlap::Skip,
        Overlap::QueueOne => wire::Overlap::QueueOne,
    });
    let (start_at, end_at) = (schedule.start_at.map(Time), schedule.end_at.map(Time));
    match &schedule.trigger {
        Trigger::Cron(spec) => wire::Schedule::Cron {
            expr: Some(spec.expr().to_owned()),
            dialect: Some(match spec.dialect() {
                Dialect::Quartz => wire::Dialect::Quartz,
                Dialect::Unix => wire::Dialect::Unix,
            }),
            timezone: Some(spec.timezone().to_owned()),
            start_at,
            end_at,
            misfire,
            overlap,
        },
        Trigger::Every(every) => wire::Schedule::Every {
            interval: Some(every.interval.into()),
            anchor: Some(every.anchor.into()),
            start_at,
            end_at,
            misfire,
            overlap,
        },
    }
}
