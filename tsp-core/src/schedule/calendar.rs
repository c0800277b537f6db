//! The wall-clock times that an expression names: no zone, no instants, only the calendar.

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Time};

use super::days::Days;

/// After so many years the calendar repeats itself, weekdays and leap years alike. What has not come by then
/// never comes.
pub(super) const CYCLE_YEARS: i16 = 400;

/// Each set has a bit for each value and is not empty; the years may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Calendar {
    pub seconds: u64,
    pub minutes: u64,
    pub hours: u64,
    pub days: Days,
    pub months: u64,
    pub years: Years,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Years {
    Any,
    Of(BTreeSet<i16>),
}

impl Years {
    /// The first year that is not before `year`.
    fn from(&self, year: i16) -> Option<i16> {
        match self {
            Self::Any => Some(year),
            Self::Of(years) => years.range(year..).next().copied(),
        }
    }

    /// The last year that is not after `year`.
    fn until(&self, year: i16) -> Option<i16> {
        match self {
            Self::Any => Some(year),
            Self::Of(years) => years.range(..=year).next_back().copied(),
        }
    }
}

impl Calendar {
    /// Whether there is one time of day, whatever its seconds: such a job has one run a day to lose or to
    /// repeat when the clock is changed (cron reference, section 5).
    pub(super) const fn is_fixed_time(&self) -> bool {
        self.hours.is_power_of_two() && self.minutes.is_power_of_two()
    }

    /// The first time that is not before `at`, which has no part of a second.
    pub(super) fn next_from(&self, at: DateTime) -> Option<DateTime> {
        if self.has_day(at.date())
            && let Some(time) = self.time_from(at.time())
        {
            return Some(at.date().to_datetime(time));
        }
        let day = self.day_from(at.date().tomorrow().ok()?)?;
        Some(day.to_datetime(self.time_from(Time::midnight())?))
    }

    /// The last time that is not after `at`, which has no part of a second.
    pub(super) fn last_until(&self, at: DateTime) -> Option<DateTime> {
        if self.has_day(at.date())
            && let Some(time) = self.time_until(at.time())
        {
            return Some(at.date().to_datetime(time));
        }
        let day = self.day_until(at.date().yesterday().ok()?)?;
        Some(day.to_datetime(self.time_until(Time::constant(23, 59, 59, 0))?))
    }

    fn has_day(&self, date: Date) -> bool {
        self.years.from(date.year()) == Some(date.year())
            && has(self.months, date.month())
            && has(self.days.of(date), date.day())
    }

    fn day_from(&self, date: Date) -> Option<Date> {
        let mut first = date;
        for _ in 0..=CYCLE_YEARS {
            let year = self.years.from(first.year())?;
            if year != first.year() {
                first = Date::new(year, 1, 1).ok()?;
            }
            let mut month = first;
            while let Some(next) = from(self.months, month.month()) {
                if next != month.month() {
                    month = Date::new(year, next, 1).ok()?;
                }
                if let Some(day) = from(self.days.of(month), month.day()) {
                    return Date::new(year, next, day).ok();
                }
                if next == 12 {
                    break;
                }
                month = Date::new(year, next + 1, 1).ok()?;
            }
            first = Date::new(year.checked_add(1)?, 1, 1).ok()?;
        }
        None
    }

    fn day_until(&self, date: Date) -> Option<Date> {
        let mut last = date;
        for _ in 0..=CYCLE_YEARS {
            let year = self.years.until(last.year())?;
            if year != last.year() {
                last = Date::new(year, 12, 31).ok()?;
            }
            let mut month = last;
            while let Some(next) = until(self.months, month.month()) {
                if next != month.month() {
                    month = Date::new(year, next, 1).ok()?.last_of_month();
                }
                if let Some(day) = until(self.days.of(month), month.day()) {
                    return Date::new(year, next, day).ok();
                }
                if next == 1 {
                    break;
                }
                month = Date::new(year, next - 1, 1).ok()?.last_of_month();
            }
            last = Date::new(year.checked_sub(1)?, 12, 31).ok()?;
        }
        None
    }

    fn time_from(&self, at: Time) -> Option<Time> {
        let (mut hour, mut minute, mut second) = (at.hour(), at.minute(), at.second());
        if !has(self.hours, hour) {
            (hour, minute, second) = (from(self.hours, hour)?, 0, 0);
        }
        if !has(self.minutes, minute) {
            second = 0;
            minute = from(self.minutes, minute).unwrap_or(60);
        }
        if minute < 60 && from(self.seconds, second).is_none() {
            second = 0;
            minute = from(self.minutes, minute + 1).unwrap_or(60);
        }
        if minute == 60 {
            hour = from(self.hours, hour + 1)?;
            minute = from(self.minutes, 0)?;
        }
        Time::new(hour, minute, from(self.seconds, second)?, 0).ok()
    }

    fn time_until(&self, at: Time) -> Option<Time> {
        let (mut hour, mut minute, mut second) = (at.hour(), at.minute(), at.second());
        if !has(self.hours, hour) {
            (hour, minute, second) = (until(self.hours, hour)?, 59, 59);
        }
        if !has(self.minutes, minute) {
            second = 59;
            minute = until(self.minutes, minute).unwrap_or(-1);
        }
        if minute >= 0 && until(self.seconds, second).is_none() {
            second = 59;
            minute = until(self.minutes, minute - 1).unwrap_or(-1);
        }
        if minute < 0 {
            hour = until(self.hours, hour - 1)?;
            minute = until(self.minutes, 59)?;
        }
        Time::new(hour, minute, until(self.seconds, second)?, 0).ok()
    }
}

const fn has(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}

/// The first value of the set that is not below `value`, which is 0 to 63.
fn from(set: u64, value: i8) -> Option<i8> {
    let left = set & u64::MAX << value;
    if left == 0 { None } else { i8::try_from(left.trailing_zeros()).ok() }
}

/// The last value of the set that is not above `value`, which is -1 to 63.
fn until(set: u64, value: i8) -> Option<i8> {
    let left = if value < 0 { 0 } else { set & u64::MAX >> (63 - value) };
    if left == 0 { None } else { i8::try_from(left.ilog2()).ok() }
}
