//! The next fires, for a person to look at: with local time, and with words where the clock is changed.

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::search::{Gap, zoned};
use super::{CronSpec, Schedule, Trigger};
use crate::time::Timestamp;

/// Most fires of one preview (API.md section 2).
pub const PREVIEW_FIRES_MAX: usize = 100;

/// Most changes of the clock that are looked at between two fires; a schedule that fires more rarely than
/// that has later ones to be told about.
const CHANGES_MAX: usize = 200;

/// One fire of a preview.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fire {
    pub at: Timestamp,
    /// RFC 3339 in the schedule's zone with its offset then, such as `2026-11-21T18:30:00+08:00`.
    pub local: String,
    /// Where a change of the clock moves, repeats or drops a slot at or just before this one.
    pub note: Option<String>,
}

impl Schedule {
    /// The first `count` fires strictly after `from`, at most [`PREVIEW_FIRES_MAX`]; fewer when the
    /// schedule ends before.
    pub fn preview(&self, from: Timestamp, count: usize) -> Vec<Fire> {
        let mut fires = Vec::new();
        let mut previous = from;
        while fires.len() < count.min(PREVIEW_FIRES_MAX)
            && let Some(at) = self.next_after(previous)
        {
            // A slot dropped before `start_at` would not have existed anyway.
            let seen_from = self.start_at.map_or(previous, |start| previous.max(start));
            fires.push(match &self.trigger {
                Trigger::Every(_) => fire(at, &TimeZone::UTC, None),
                Trigger::Cron(spec) => fire(at, spec.zone(), note(spec, seen_from, at)),
            });
            previous = at;
        }
        fires
    }
}

fn fire(at: Timestamp, zone: &TimeZone, note: Option<String>) -> Fire {
    // Not cut to the second: intervals may have milliseconds.
    let local = jiff::Timestamp::from_millisecond(at.ms()).map_or_else(
        |_| at.to_string(),
        |instant| instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string(),
    );
    Fire { at, local, note }
}

/// What the clock of the zone does to the slot `at` or to those dropped between `previous` and it.
fn note(spec: &CronSpec, previous: Timestamp, at: Timestamp) -> Option<String> {
    let zone = spec.zone();
    let (from, to) = (zoned(zone, previous)?, zoned(zone, at)?);
    repeated(spec, &to).or_else(|| {
        let mut offset = from.offset();
        for change in zone.following(from.timestamp()).take(CHANGES_MAX) {
            if change.timestamp() > to.timestamp() {
                break;
            }
            let gap = Gap::of(&change, offset);
            offset = change.offset();
            if let Some(words) = gap.and_then(|gap| gap.note(spec, &to)) {
                return Some(words);
            }
        }
        None
    })
}

impl Gap {
    /// What becomes of the slots that the expression has inside the gap.
    fn note(&self, spec: &CronSpec, to: &Zoned) -> Option<String> {
        let slot = spec.calendar().next_from(self.from)?;
        if slot >= self.to {
            return None;
        }
        let (day, time) = (slot.date(), clock(slot));
        let (left, right) = (clock(self.from), clock(self.to));
        let change = if self.from.date() == self.to.date() {
            format!("the clock goes from {left} to {right}")
        } else {
            format!("the clock goes from {left} on {} to {right} on {}", self.from.date(), self.to.date())
        };
        let is_moved =
            spec.calendar().is_fixed_time() && to.timestamp() == self.after && !self.leaves_out_day_of(slot);
        Some(if is_moved {
            format!("{time} does not exist on {day}, {change}: moved to the first moment after")
        } else {
            format!("before this one, slots from {time} on {day} are dropped: {change}")
        })
    }
}

/// A note for a slot whose wall clock time comes twice.
fn repeated(spec: &CronSpec, to: &Zoned) -> Option<String> {
    let twice = spec.zone().to_ambiguous_timestamp(to.datetime());
    if !twice.is_ambiguous() {
        return None;
    }
    let (earlier, later) = (twice.earlier().ok()?, twice.later().ok()?);
    let (day, time) = (to.date(), clock(to.datetime()));
    if spec.calendar().is_fixed_time() {
        Some(format!("{time} comes twice on {day}, the clock is put back: fires at the first only"))
    } else if to.timestamp() == later && earlier != later {
        Some(format!("{time} comes twice on {day}, the clock is put back: this is the second"))
    } else {
        None
    }
}

/// `02:30`, with seconds where there are any.
fn clock(at: DateTime) -> String {
    at.strftime(if at.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Every;
    use crate::time::Millis;

    fn preview(expr: &str, zone: &str, from: &str, count: usize) -> Vec<(String, Option<String>)> {
        let schedule = Schedule::new(Trigger::Cron(CronSpec::parse(expr, None, zone).unwrap()));
        let from: jiff::Timestamp = from.parse().unwrap();
        let fires = schedule.preview(Timestamp::from_ms(from.as_millisecond()), count);
        fires.into_iter().map(|fire| (fire.local, fire.note)).collect()
    }

    #[test]
    fn says_where_a_gap_moves_a_slot() {
        let fires = preview("0 30 2 * * ?", "America/New_York", "2026-03-07T00:00:00-05:00", 3);
        assert_eq!(fires[0], ("2026-03-07T02:30:00-05:00".to_owned(), None));
        assert_eq!(fires[1].0, "2026-03-08T03:00:00-04:00");
        assert_eq!(
            fires[1].1.as_deref(),
            Some(
                "02:30 does not exist on 2026-03-08, the clock goes from 02:00 to 03:00: moved to the first moment after"
            )
        );
        assert_eq!(fires[2], ("2026-03-09T02:30:00-04:00".to_owned(), None));
        let midnight = preview("0 0 0 * * ?", "Africa/Cairo", "2026-04-23T12:00:00Z", 1);
        assert_eq!(midnight[0].0, "2026-04-24T01:00:00+03:00");
        assert!(midnight[0].1.as_ref().unwrap().starts_with("00:00 does not exist on 2026-04-24"));
    }

    #[test]
    fn says_where_a_gap_drops_slots() {
        let fires = preview("0 15,45 2 * * ?", "America/New_York", "2026-03-07T12:00:00-05:00", 2);
        assert_eq!(fires[0].0, "2026-03-09T02:15:00-04:00");
        assert_eq!(
            fires[0].1.as_deref(),
            Some(
                "before this one, slots from 02:15 on 2026-03-08 are dropped: the clock goes from 02:00 to 03:00"
            )
        );
        assert_eq!(fires[1].1, None);
        let half_hours = preview("0 */30 * * * ?", "America/New_York", "2026-03-08T01:00:00-05:00", 3);
        assert_eq!(half_hours.iter().filter(|fire| fire.1.is_some()).count(), 1);
        assert!(half_hours[1].1.is_some() && half_hours[1].0 == "2026-03-08T03:00:00-04:00");
        let samoa = preview("0 0 12 * * ?", "Pacific/Apia", "2011-12-29T12:00:00-10:00", 1);
        assert_eq!(samoa[0].0, "2011-12-31T12:00:00+14:00");
        assert!(samoa[0].1.as_ref().unwrap().contains("2011-12-30"), "{samoa:?}");
    }

    #[test]
    fn says_where_the_clock_repeats() {
        let once = preview("0 30 1 * * ?", "America/New_York", "2026-10-31T12:00:00-04:00", 2);
        assert_eq!(once[0].0, "2026-11-01T01:30:00-04:00");
        assert!(once[0].1.as_ref().unwrap().ends_with("fires at the first only"));
        assert_eq!(once[1], ("2026-11-02T01:30:00-05:00".to_owned(), None));
        let hourly = preview("0 0 * * * ?", "America/New_York", "2026-11-01T00:00:00-04:00", 3);
        let notes: Vec<bool> = hourly.iter().map(|fire| fire.1.is_some()).collect();
        assert_eq!(notes, [false, true, false]);
        assert_eq!(hourly[1].0, "2026-11-01T01:00:00-05:00");
    }

    #[test]
    fn intervals_are_shown_in_utc() {
        let every = Every { interval: Millis::from_ms(1_500), anchor: Timestamp::ZERO };
        let fires = Schedule::new(Trigger::Every(every)).preview(Timestamp::ZERO, 2);
        assert_eq!(fires[0].local, "1970-01-01T00:00:01.5+00:00");
        assert_eq!(fires[1].local, "1970-01-01T00:00:03+00:00");
    }

    #[test]
    fn is_bounded() {
        assert_eq!(
            preview("* * * * * ?", "UTC", "2026-01-01T00:00:00Z", usize::MAX).len(),
            PREVIEW_FIRES_MAX
        );
        assert_eq!(preview("0 0 12 1 1 ? 2027-2029", "UTC", "2026-01-01T00:00:00Z", 10).len(), 3);
        assert_eq!(preview("0 0 12 1 1 ? 2099", "Europe/London", "2026-01-01T00:00:00Z", 1).len(), 1);
    }
}
