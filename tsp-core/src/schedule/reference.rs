//! A second reading of expressions, for the tests alone: slow and plain, it asks of each time whether the text
//! names it, and shares nothing with the search but the rules of the guide.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Instant, ToSpan};

use super::Dialect;

const MONTHS: &str = "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC";
const WEEKDAYS: &str = "SUNMONTUEWEDTHUFRISAT";

/// An expression in upper case, and the range of each field.
pub(super) struct Reading<'a> {
    fields: Vec<&'a str>,
    dialect: Dialect,
}

impl<'a> Reading<'a> {
    pub(super) fn new(expr: &'a str, dialect: Dialect) -> Self {
        let mut fields: Vec<&str> = expr.split(' ').collect();
        if dialect == Dialect::Unix {
            fields.insert(0, "0");
        }
        Self { fields, dialect }
    }

    pub(super) fn is_fixed_time(&self) -> bool {
        let single = |field, max| (0..=max).filter(|value| self.has(field, *value)).count() == 1;
        single(1, 59) && single(2, 23)
    }

    pub(super) fn matches(&self, wall: DateTime) -> bool {
        self.matches_minute(wall) && self.has(0, i32::from(wall.second()))
    }

    fn matches_minute(&self, wall: DateTime) -> bool {
        self.has(1, i32::from(wall.minute()))
            && self.has(2, i32::from(wall.hour()))
            && self.matches_day(wall.date())
    }

    fn matches_day(&self, date: Date) -> bool {
        let year = self.fields.get(6).is_none_or(|_| self.has(6, i32::from(date.year())));
        year && self.has(4, i32::from(date.month())) && self.matches_day_fields(date)
    }

    fn matches_day_fields(&self, date: Date) -> bool {
        let (in_month, in_week) = (self.fields[3], self.fields[5]);
        let by_month = || in_month.split(',').any(|item| self.is_day_of_month(item, date));
        let by_week = || in_week.split(',').any(|item| self.is_day_of_week(item, date));
        match (self.dialect, in_month, in_week) {
            (Dialect::Quartz, "?", _) | (Dialect::Unix, "*", _) => by_week(),
            (Dialect::Quartz, _, "?") | (Dialect::Unix, _, "*") => by_month(),
            _ => by_month() || by_week(),
        }
    }

    fn has(&self, field: usize, value: i32) -> bool {
        self.fields[field].split(',').any(|item| self.is_in(field, item, value))
    }

    fn is_in(&self, field: usize, item: &str, value: i32) -> bool {
        let (min, max) = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), self.weekdays(), (1970, 2199)][field];
        let (range, step) =
            item.split_once('/').map_or((item, 1), |(range, step)| (range, step.parse().unwrap()));
        let number = |text: &str| -> i32 {
            let named = |names: &str| names.find(&text[..3]).map(|at| i32::try_from(at / 3).unwrap());
            match field {
                4 if !text.starts_with(|c: char| c.is_ascii_digit()) => named(MONTHS).unwrap() + 1,
                5 if !text.starts_with(|c: char| c.is_ascii_digit()) => named(WEEKDAYS).unwrap() + min,
                _ => text.parse().unwrap(),
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range.is_empty() => (min, max),
            Some((first, last)) => (number(first), number(last)),
            None if item.contains('/') => (number(range), max),
            None => (number(range), number(range)),
        };
        // The way from the first value, around the end of the field if need be.
        let size = max - min + 1;
        let (mut at, end) = (first, if last < first { last + size } else { last });
        while at <= end {
            if if at > max && field != 6 { at - size } else { at } == value {
                return true;
            }
            at += step;
        }
        false
    }

    fn weekdays(&self) -> (i32, i32) {
        if self.dialect == Dialect::Quartz { (1, 7) } else { (0, 6) }
    }

    fn is_day_of_month(&self, item: &str, date: Date) -> bool {
        let last = date.last_of_month();
        let meant = |day: &str| match day.strip_prefix('L') {
            Some(back) => last.day() - back.trim_start_matches('-').parse().unwrap_or(0),
            None => day.parse().unwrap(),
        };
        match item.strip_suffix('W') {
            Some(day) => {
                let day = meant(day);
                // Of all weekdays of the month the one with the least distance; there is never a tie.
                let weekdays = (1..=last.day()).filter(|day| {
                    let weekday = Date::new(date.year(), date.month(), *day).unwrap().weekday();
                    (1..=5).contains(&weekday.to_monday_one_offset())
                });
                let exists = (1..=last.day()).contains(&day);
                exists && weekdays.min_by_key(|other| (other - day).abs()) == Some(date.day())
            }
            None if item.starts_with('L') => meant(item) == date.day(),
            None => self.is_in(3, item, i32::from(date.day())),
        }
    }

    fn is_day_of_week(&self, item: &str, date: Date) -> bool {
        let weekday = i32::from(date.weekday().to_sunday_zero_offset()) + self.weekdays().0;
        let is_last = date.checked_add(7.days()).unwrap().month() != date.month();
        if item == "L" {
            return weekday == 7;
        }
        if let Some((day, which)) = item.split_once('#') {
            let nth = (i32::from(date.day()) - 1) / 7 + 1;
            return self.is_in(5, day, weekday)
                && if which == "L" { is_last } else { which == nth.to_string() };
        }
        match item.strip_suffix('L') {
            Some(day) => is_last && self.is_in(5, day, weekday),
            None => self.is_in(5, item, weekday),
        }
    }

    /// The first `count` slots after `from` and not after `until`.
    pub(super) fn slots(&self, zone: &TimeZone, from: Instant, until: Instant, count: usize) -> Vec<Instant> {
        let mut slots: Vec<Instant> = Vec::new();
        let mut day = from.to_zoned(zone.clone()).date().checked_sub(2.days()).unwrap();
        let end = until.to_zoned(zone.clone()).date().checked_add(2.days()).unwrap();
        let is_fixed = self.is_fixed_time();
        // A day more, because a slot may be moved behind one of the next day.
        while day <= end && slots.len() <= count + 1 {
            if self.matches_day(day) {
                let found = if is_fixed { self.fixed(zone, day) } else { self.shown(zone, day) };
                slots.extend(found.into_iter().filter(|slot| (from + 1.second()..=until).contains(slot)));
                slots.sort();
                slots.dedup();
            }
            day = day.tomorrow().unwrap();
        }
        slots.truncate(count);
        slots
    }

    /// Each wall time of the day becomes the first instant at which the clock has reached it.
    fn fixed(&self, zone: &TimeZone, day: Date) -> Vec<Instant> {
        let (hour, minute) = ((0..24), (0..60));
        let hour = hour.into_iter().find(|hour| self.has(2, *hour)).unwrap();
        let minute = minute.into_iter().find(|minute| self.has(1, *minute)).unwrap();
        let at = |second: i32| {
            let [hour, minute, second] = [hour, minute, second].map(|part| i8::try_from(part).unwrap());
            day.at(hour, minute, second, 0)
        };
        let walls = (0..60).filter(|second| self.has(0, *second)).map(at);
        let reached = walls.filter_map(|wall| {
            let utc = TimeZone::UTC.to_timestamp(wall).unwrap();
            let around = [-26, 26].map(|hours| zone.to_offset(utc + hours.hours()).seconds());
            let second = SignedDuration::from_secs(i64::from(wall.second()));
            let mut instant =
                utc - second - SignedDuration::from_secs(i64::from(*around.iter().max().unwrap()) + 60);
            // The clock is changed at whole minutes.
            while zone.to_datetime(instant) < wall.first_of_minute() {
                instant += 1.minute();
            }
            if zone.to_datetime(instant) == wall.first_of_minute() {
                instant += second;
            }
            let left_out =
                zone.to_datetime(instant - 1.second()).date() < day && zone.to_datetime(instant).date() > day;
            (!left_out).then_some(instant)
        });
        reached.collect()
    }

    /// Each second at which the clock shows a time that is named.
    fn shown(&self, zone: &TimeZone, day: Date) -> Vec<Instant> {
        let start = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap() - 26.hours();
        let mut slots = Vec::new();
        for minute in 0..76 * 60 {
            let at = start + minute.minutes();
            let wall = zone.to_datetime(at);
            if wall.date() == day
                && self.has(1, i32::from(wall.minute()))
                && self.has(2, i32::from(wall.hour()))
            {
                let seconds = (0..60).filter(|second| self.has(0, *second));
                slots.extend(seconds.map(|second| at + i64::from(second).seconds()));
            }
        }
        slots
    }
}

trait FirstOfMinute {
    fn first_of_minute(self) -> DateTime;
}

impl FirstOfMinute for DateTime {
    fn first_of_minute(self) -> DateTime {
        self.date().at(self.hour(), self.minute(), 0, 0)
    }
}
