//! The days of a month that the two day fields name.

use std::ops::Range;

use jiff::civil::Date;

/// Either field is enough. Quartz gives one of them, Unix may give both.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Days {
    pub in_month: Option<InMonth>,
    pub in_week: Option<InWeek>,
}

/// `1-15`, `L`, `L-3`, `15W`, `LW`, `L-3W`: a bit for each day, or for each number of days before the last one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct InMonth {
    pub days: u64,
    pub before_last: u64,
    /// Days whose nearest weekday is meant.
    pub weekdays: u64,
    pub weekdays_before_last: u64,
}

/// `MON-FRI`, `6#3`, `6L`: a bit for each weekday, 0 is Sunday.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct InWeek {
    pub every: u64,
    pub nth: [u64; 5],
    pub last: u64,
}

/// A month: the weekday of its first day, and its length.
#[derive(Clone, Copy)]
struct Month {
    first: u8,
    length: u8,
}

impl Days {
    /// A bit for each day of the month of `date`.
    pub(super) fn of(&self, date: Date) -> u64 {
        let first = date.first_of_month();
        let month = Month {
            first: first.weekday().to_sunday_zero_offset().unsigned_abs(),
            length: first.days_in_month().unsigned_abs(),
        };
        let in_month = self.in_month.map_or(0, |days| days.of(month));
        in_month | self.in_week.map_or(0, |days| days.of(month))
    }
}

impl Month {
    /// 0 is Sunday, 6 is Saturday.
    const fn weekday(self, day: u8) -> u8 {
        (self.first + day - 1) % 7
    }

    /// The days that are in this month.
    fn cut(self, days: u64, before_last: u64) -> u64 {
        let whole = (2 << self.length) - 2;
        members(before_last, 0..self.length).fold(days & whole, |all, back| all | 1 << (self.length - back))
    }

    /// The weekday nearest to `day` within the month.
    const fn nearest_weekday(self, day: u8) -> u8 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

impl InMonth {
    fn of(self, month: Month) -> u64 {
        let weekdays = month.cut(self.weekdays, self.weekdays_before_last);
        let moved =
            members(weekdays, 1..month.length + 1).fold(0, |all, day| all | 1 << month.nearest_weekday(day));
        month.cut(self.days, self.before_last) | moved
    }
}

impl InWeek {
    fn of(self, month: Month) -> u64 {
        (1..=month.length).fold(0, |all, day| {
            let weekday = month.weekday(day);
            let nth = self.nth[usize::from((day - 1) / 7)];
            let last = if day + 7 > month.length { self.last } else { 0 };
            all | ((self.every | nth | last) >> weekday & 1) << day
        })
    }
}

fn members(set: u64, among: Range<u8>) -> impl Iterator<Item = u8> {
    let among = if set == 0 { 0..0 } else { among };
    among.filter(move |value| set >> value & 1 == 1)
}
