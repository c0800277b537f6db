//! The grammar of the fields of a cron expression, and what each item means.
//!
//! Every item is read by our own rules, so that what is accepted has one meaning and what is refused is named.
//! What Quartz reads in part and ignores in part (`1.5`, `1-5W`, `MON-FRI` behind a list with `#`) is either
//! taken as it is written or refused.

use super::calendar::{Calendar, Years};
use super::cron::Dialect;
use super::days::{Days, InMonth, InWeek};

const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
const WEEKDAYS: [&str; 7] = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];

/// The letters of the short name of a month or weekday.
const NAME_CHARS: usize = 3;

/// The first year of the calendar: a step through years counts from it.
const YEAR_MIN: u16 = 1970;
/// The last year that has slots of its own when years are given.
const YEAR_MAX: u16 = 2199;
/// What may be written as a year; a range may reach beyond the calendar.
const YEAR_WRITTEN_MAX: u16 = 9999;

/// Most days counted back from the last one of a month.
const BEFORE_LAST_MAX: u16 = 30;

/// What one field may say.
struct Field {
    dialect: Dialect,
    name: &'static str,
    min: u16,
    max: u16,
    /// The longest sensible step: the number of different values.
    step_max: u16,
    /// Names of values, the first of which has the number `min`.
    names: &'static [&'static str],
    example: &'static str,
}

impl Field {
    const fn plain(dialect: Dialect, name: &'static str, min: u16, max: u16, example: &'static str) -> Self {
        Self { dialect, name, min, max, step_max: max - min + 1, names: &[], example }
    }

    const fn seconds(dialect: Dialect) -> Self {
        Self::plain(dialect, "seconds", 0, 59, "`0`, `0,30`, `*/5`")
    }

    const fn minutes(dialect: Dialect) -> Self {
        Self::plain(dialect, "minutes", 0, 59, "`0`, `0,30`, `*/5`")
    }

    const fn hours(dialect: Dialect) -> Self {
        Self::plain(dialect, "hours", 0, 23, "`8`, `9-17`, `*/2`")
    }

    const fn day_of_month(dialect: Dialect) -> Self {
        Self::plain(dialect, "day-of-month", 1, 31, "`1`, `1-15`, `L`, `L-3`, `LW`, `15W`")
    }

    const fn month(dialect: Dialect) -> Self {
        Self { names: &MONTHS, ..Self::plain(dialect, "month", 1, 12, "`1`, `1-6`, `JAN,JUL`") }
    }

    const fn day_of_week(dialect: Dialect) -> Self {
        let (min, example) = match dialect {
            Dialect::Quartz => (1, "`2` or `MON`, `MON-FRI`, `6L`, `6#3` (1 is Sunday)"),
            // 7 is Sunday once more, so that ranges may end with it.
            Dialect::Unix => (0, "`1` or `MON`, `MON-FRI` (0 and 7 are Sunday)"),
        };
        Self { step_max: 7, names: &WEEKDAYS, ..Self::plain(dialect, "day-of-week", min, 7, example) }
    }

    const fn year() -> Self {
        let plain =
            Self::plain(Dialect::Quartz, "year", 0, YEAR_WRITTEN_MAX, "`2027`, `2027-2029`, `2026/2`");
        Self { step_max: YEAR_WRITTEN_MAX, ..plain }
    }

    /// A message about `text` in this field.
    fn wrong(&self, text: &str, why: &str) -> String {
        format!("{} `{text}`: {why}; for example {}", self.name, self.example)
    }

    /// Reads every item of the list.
    fn read(&self, text: &str, mut item: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        for part in text.split(',') {
            let read = match part {
                "" => Err("a list has an empty item".to_owned()),
                part if part.contains('?') => Err(self.why_not_open(part)),
                part => item(part),
            };
            read.map_err(|why| self.wrong(part, &why))?;
        }
        Ok(())
    }

    fn why_not_open(&self, part: &str) -> String {
        let is_day_field = self.name.starts_with("day");
        if part == "?" && !(is_day_field && self.dialect == Dialect::Quartz) {
            return "`?` is only for the day fields of the quartz dialect, write `*`".to_owned();
        }
        "`?` must stand alone, in day-of-month or day-of-week".to_owned()
    }

    /// A field without forms of its own.
    fn set(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        self.read(text, |item| {
            set |= bits(self.values(item)?);
            Ok(())
        })?;
        Ok(set)
    }

    /// The values of `5`, `1-5`, `*`, each perhaps with a step.
    fn values(&self, item: &str) -> Result<Vec<u16>, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(range, step)?)),
        };
        let (first, last) = match range {
            "*" => self.whole(),
            "" if step.is_some() && self.dialect == Dialect::Quartz => self.whole(),
            _ if range.contains('-') => self.range(range)?,
            _ => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.max } else { value })
            }
        };
        let size = self.max - self.min + 1;
        let end = if last < first { last + size } else { last };
        let values = (first..=end).step_by(usize::from(step.unwrap_or(1)));
        Ok(values.map(|value| if value > self.max { value - size } else { value }).collect())
    }

    fn whole(&self) -> (u16, u16) {
        match self.name {
            "year" => (YEAR_MIN, YEAR_MAX),
            _ if self.is_unix_weekday() => (0, 6),
            _ => (self.min, self.max),
        }
    }

    fn step(&self, range: &str, step: &str) -> Result<u16, String> {
        let is_range = range.contains('-');
        if self.dialect == Dialect::Unix && range != "*" && !is_range {
            // `5/15` is Quartz's form, which Unix crons read differently.
            return Err(format!("a step needs a range, write `{range}-{}/{step}`", self.max));
        }
        // Beyond a range written out a step means its first value.
        let max = if is_range && self.dialect == Dialect::Quartz { u16::MAX } else { self.step_max };
        match number(step) {
            Some(step) if (1..=max).contains(&step) => Ok(step),
            _ => Err(format!("a step is 1 to {}", self.step_max)),
        }
    }

    /// The ends of a range. In Quartz it may wrap around the end of its field, years aside.
    fn range(&self, range: &str) -> Result<(u16, u16), String> {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (first, mut last) = (self.value(from)?, self.value(to)?);
        if self.is_unix_weekday() && last == 0 && number(to).is_none() {
            if first == 0 {
                return Err("this is one day, write `SUN`".to_owned());
            }
            // A range may end with the Sunday after it began.
            last = 7;
        }
        if first <= last || (self.dialect == Dialect::Quartz && self.name != "year") {
            return Ok((first, last));
        }
        if self.name == "year" {
            return Err("a range of years must rise".to_owned());
        }
        let (low, high) = self.ends(number(from).is_none());
        let left = if from == high { from.to_owned() } else { format!("{from}-{high}") };
        let right = if to == low { to.to_owned() } else { format!("{low}-{to}") };
        Err(format!("a range must rise, write `{left},{right}`"))
    }

    /// The lowest and the highest value, as names if asked for and there are any.
    fn ends(&self, as_names: bool) -> (String, String) {
        match (self.names.first(), self.names.last()) {
            (Some(low), Some(high)) if as_names => (short(low).to_owned(), short(high).to_owned()),
            _ => (self.min.to_string(), self.max.to_string()),
        }
    }

    /// Whether 0 and 7 are the same day here.
    fn is_unix_weekday(&self) -> bool {
        self.dialect == Dialect::Unix && self.max == 7
    }

    /// One value by number or by name.
    fn value(&self, text: &str) -> Result<u16, String> {
        let named = |name: &str| name == text || short(name) == text;
        if let Some((value, _)) = (self.min..).zip(self.names).find(|(_, name)| named(name)) {
            return Ok(value);
        }
        match number(text) {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            Some(_) => Err(format!("must be {} to {}", self.min, self.max)),
            None if self.names.is_empty() => Err(format!("`{text}` is not a number")),
            None => Err(format!("`{text}` is neither a number nor a name such as {}", short(self.names[1]))),
        }
    }

    fn days_of_month(&self, text: &str) -> Result<InMonth, String> {
        let mut days = InMonth::default();
        self.read(text, |item| {
            // Only `L` and `L-3` begin with L, and with a W in addition.
            if let Some(rest) = item.strip_prefix('L') {
                let (back, set) = match rest.strip_suffix('W') {
                    Some(back) => (back, &mut days.weekdays_before_last),
                    None => (rest, &mut days.before_last),
                };
                *set |= 1 << Self::before_last(item, back)?;
            } else if let Some(day) = item.strip_suffix('W') {
                days.weekdays |= 1 << self.value(day)?;
            } else {
                days.days |= bits(self.values(item)?);
            }
            Ok(())
        })?;
        Ok(days)
    }

    /// How many days before the last one.
    fn before_last(item: &str, back: &str) -> Result<u16, String> {
        match back.strip_prefix('-').map(number) {
            None if back.is_empty() => Ok(0),
            Some(Some(days)) if days <= BEFORE_LAST_MAX => Ok(days),
            Some(_) => Err(format!("the days counted back from the last one are 0 to {BEFORE_LAST_MAX}")),
            None => Err(format!("`{item}` is not a number")),
        }
    }

    fn days_of_week(&self, text: &str) -> Result<InWeek, String> {
        let mut days = InWeek::default();
        let sunday = self.min;
        let weekdays =
            |values: Vec<u16>| bits(values.into_iter().map(|value| (value - sunday) % 7).collect());
        self.read(text, |item| {
            if let Some((of, which)) = item.split_once('#') {
                let of = weekdays(self.values(of)?);
                match which {
                    "L" => days.last |= of,
                    "1" | "2" | "3" | "4" | "5" => days.nth[usize::from(which.as_bytes()[0] - b'1')] |= of,
                    _ => return Err("after `#` comes 1 to 5, or L for the last".to_owned()),
                }
            } else if item == "L" {
                if self.dialect == Dialect::Unix {
                    return Err("`L` needs a day, as in `6L`; for every Saturday write `SAT`".to_owned());
                }
                days.every |= weekdays(vec![self.max]);
            } else if let Some(day) = item.strip_suffix('L') {
                // No name of a weekday ends with L.
                days.last |= weekdays(vec![self.value(day)?]);
            } else {
                days.every |= weekdays(self.values(item)?);
            }
            Ok(())
        })?;
        Ok(days)
    }

    fn years(&self, text: &str) -> Result<Years, String> {
        if text == "*" {
            return Ok(Years::Any);
        }
        let mut years = std::collections::BTreeSet::new();
        self.read(text, |item| {
            // Quartz counts a step behind a single year up to the end of the calendar.
            let values = self.values(item)?.into_iter().filter(|year| (YEAR_MIN..=YEAR_MAX).contains(year));
            years.extend(values.filter_map(|year| i16::try_from(year).ok()));
            Ok(())
        })?;
        Ok(Years::Of(years))
    }
}

/// Reads an upper-case expression whose number of fields is already right.
///
/// # Errors
/// A sentence that names the field, its text and a right example.
pub(super) fn read(dialect: Dialect, texts: &[&str]) -> Result<Calendar, String> {
    let (second, texts) = match dialect {
        Dialect::Quartz => (Some(texts[0]), &texts[1..]),
        Dialect::Unix => (None, texts),
    };
    if dialect == Dialect::Quartz {
        check_one_day_field(texts[2], texts[4])?;
    }
    Ok(Calendar {
        seconds: second.map_or(Ok(1), |second| Field::seconds(dialect).set(second))?,
        minutes: Field::minutes(dialect).set(texts[0])?,
        hours: Field::hours(dialect).set(texts[1])?,
        days: days(dialect, texts[2], texts[4])?,
        months: Field::month(dialect).set(texts[3])?,
        years: texts.get(5).map_or(Ok(Years::Any), |year| Field::year().years(year))?,
    })
}

/// Quartz has one of the two, the other is `?`. In Unix `*` in one of them leaves the other alone.
fn days(dialect: Dialect, day_of_month: &str, day_of_week: &str) -> Result<Days, String> {
    let in_month = match day_of_month {
        "?" if dialect == Dialect::Quartz => None,
        text => Some(Field::day_of_month(dialect).days_of_month(text)?),
    };
    let in_week = match day_of_week {
        "?" if dialect == Dialect::Quartz => None,
        text => Some(Field::day_of_week(dialect).days_of_week(text)?),
    };
    Ok(match (dialect, day_of_month, day_of_week) {
        (Dialect::Unix, _, "*") => Days { in_month, in_week: None },
        (Dialect::Unix, "*", _) => Days { in_month: None, in_week },
        _ => Days { in_month, in_week },
    })
}

/// Quartz: exactly one of the day fields is `?`. With both given, some libraries fire on either day and others
/// only on both, so nobody could know what was meant; `*` is a value as well.
fn check_one_day_field(day_of_month: &str, day_of_week: &str) -> Result<(), String> {
    match (day_of_month == "?", day_of_week == "?") {
        (false, false) => Err(format!(
            "day-of-month `{day_of_month}` and day-of-week `{day_of_week}` are both given: \
             use ? in one of the two; for example `0 0 0 13 * ?` or `0 0 0 ? * FRI`"
        )),
        (true, true) => {
            Err("day-of-month and day-of-week are both `?`: give one of the two; for example `0 0 0 * * ?`"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// Values up to 63 as a set.
fn bits(values: Vec<u16>) -> u64 {
    values.into_iter().fold(0, |set, value| set | 1 << value)
}

fn short(name: &str) -> &str {
    &name[..NAME_CHARS]
}

/// A number of one to four digits and nothing else.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}
