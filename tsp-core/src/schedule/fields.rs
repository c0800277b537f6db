//! The grammar of the fields of a cron expression, checked before croner sees it.
//!
//! croner accepts more than the dialects have (`1,,2`, a name in any field, `?` inside a list, `L` as a
//! weekday, steps longer than the field) and answers with one sentence without a place. Here every item is
//! read by our own rules, so that what is accepted has one meaning and what is refused is named.

use super::cron::Dialect;

/// Most items in the list of one field.
const LIST_ITEMS_MAX: usize = 32;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What one field may say.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// The number of different values, which is the longest sensible step.
    size: u16,
    /// Names of values, the first of which has the number `min`.
    names: &'static [&'static str],
    example: &'static str,
    extras: Extras,
}

/// The forms that only the day fields have.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Extras {
    None,
    /// `L`, `LW`, `15W`
    DayOfMonth,
    /// `6L`, `6#3`, `MON-FRI#1`, `FRI#L`
    DayOfWeek,
}

impl Field {
    const fn plain(name: &'static str, min: u16, max: u16, example: &'static str) -> Self {
        Self { name, min, max, size: max - min + 1, names: &[], example, extras: Extras::None }
    }

    /// The fields of a dialect in the order of the expression; the year of Quartz may be left out.
    fn all(dialect: Dialect) -> Vec<Self> {
        let day_of_month = Self {
            extras: Extras::DayOfMonth,
            ..Self::plain("day-of-month", 1, 31, "`1`, `1-15`, `L`, `LW`, `15W`")
        };
        let months = Self { names: &MONTHS, ..Self::plain("month", 1, 12, "`1`, `1-6`, `JAN,JUL`") };
        let mut fields = vec![
            Self::plain("minutes", 0, 59, "`0`, `0,30`, `*/5`"),
            Self::plain("hours", 0, 23, "`8`, `9-17`, `*/2`"),
            day_of_month,
            months,
        ];
        match dialect {
            Dialect::Unix => fields.push(Self {
                size: 7,
                names: &WEEKDAYS,
                extras: Extras::DayOfWeek,
                // 7 is Sunday once more, so that ranges may end with it.
                ..Self::plain("day-of-week", 0, 7, "`1` or `MON`, `MON-FRI` (0 and 7 are Sunday)")
            }),
            Dialect::Quartz => {
                fields.insert(0, Self::plain("seconds", 0, 59, "`0`, `0,30`, `*/5`"));
                fields.push(Self {
                    names: &WEEKDAYS,
                    extras: Extras::DayOfWeek,
                    ..Self::plain("day-of-week", 1, 7, "`2` or `MON`, `MON-FRI`, `6L`, `6#3` (1 is Sunday)")
                });
                // The years Quartz knows.
                fields.push(Self::plain("year", 1970, 2099, "`2027`, `2027-2029`"));
            }
        }
        fields
    }

    /// A message about `text` in this field.
    fn wrong(&self, text: &str, why: &str) -> String {
        format!("{} `{text}`: {why}; for example {}", self.name, self.example)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        if text == "*" {
            return Ok(());
        }
        let items: Vec<&str> = text.split(',').collect();
        if items.len() > LIST_ITEMS_MAX {
            return Err(format!("{} has more than {LIST_ITEMS_MAX} items in its list", self.name));
        }
        for item in &items {
            self.check_item(item).map_err(|why| self.wrong(item, &why))?;
        }
        // croner would take the pair as `LW` alone.
        if self.extras == Extras::DayOfMonth && items.contains(&"L") && items.contains(&"LW") {
            return Err(self.wrong(text, "`L` and `LW` cannot stand in one list"));
        }
        Ok(())
    }

    fn check_item(&self, item: &str) -> Result<(), String> {
        if item.is_empty() {
            return Err("a list has an empty item".to_owned());
        }
        if item == "*" {
            return Err("`*` must stand alone, not in a list".to_owned());
        }
        if item.contains('?') {
            return Err("`?` must stand alone, in day-of-month or day-of-week".to_owned());
        }
        if let Some((range, step)) = item.split_once('/') {
            return self.check_step(range, step);
        }
        match self.extras {
            Extras::DayOfMonth if matches!(item, "L" | "LW") => Ok(()),
            Extras::DayOfMonth if item.starts_with("L-") => {
                Err("days counted back from the last one are not supported".to_owned())
            }
            Extras::DayOfMonth if item.ends_with('W') => self.value(&item[..item.len() - 1]).map(|_| ()),
            Extras::DayOfWeek if item == "L" => {
                Err("`L` needs a day, as in `6L`; for every Saturday write `SAT`".to_owned())
            }
            Extras::DayOfWeek => self.check_weekday(item),
            _ => self.check_range(item),
        }
    }

    /// `6L`, `6#3`, `MON-FRI#1`, or an ordinary range.
    fn check_weekday(&self, item: &str) -> Result<(), String> {
        if let Some((days, which)) = item.split_once('#') {
            if !matches!(which, "1" | "2" | "3" | "4" | "5" | "L") {
                return Err("after `#` comes 1 to 5, or L for the last".to_owned());
            }
            return self.check_range(days);
        }
        // No name of a weekday ends with L.
        match item.strip_suffix('L') {
            Some(day) => self.value(day).map(|_| ()),
            None => self.check_range(item),
        }
    }

    fn check_step(&self, range: &str, step: &str) -> Result<(), String> {
        match number(step) {
            Some(step) if (1..=self.size).contains(&step) => {}
            _ => return Err(format!("a step is 1 to {}", self.size)),
        }
        if range == "*" {
            return Ok(());
        }
        self.check_range(range)
    }

    /// A value, or a range from a lower to a higher one.
    fn check_range(&self, item: &str) -> Result<(), String> {
        let Some((from, to)) = item.split_once('-') else {
            return self.value(item).map(|_| ());
        };
        let first = self.value(from)?;
        let mut last = self.value(to)?;
        if self.is_unix_weekday() && to == "SUN" {
            if from == "SUN" {
                return Err("this is one day, write `SUN`".to_owned());
            }
            // A range may end with the Sunday after it began.
            last = 7;
        }
        if first <= last {
            return Ok(());
        }
        let (low, high) = self.ends(number(from).is_none());
        let left = if from == high { from.to_owned() } else { format!("{from}-{high}") };
        let right = if to == low { to.to_owned() } else { format!("{low}-{to}") };
        Err(format!("a range must rise, write `{left},{right}`"))
    }

    /// The lowest and the highest value, as names if asked for and there are any.
    fn ends(&self, as_names: bool) -> (String, String) {
        match (self.names.first(), self.names.last()) {
            (Some(low), Some(high)) if as_names => ((*low).to_owned(), (*high).to_owned()),
            _ => (self.min.to_string(), self.max.to_string()),
        }
    }

    /// Whether 0 and 7 are the same day here.
    fn is_unix_weekday(&self) -> bool {
        self.extras == Extras::DayOfWeek && self.min == 0
    }

    /// One value by number or by name.
    fn value(&self, text: &str) -> Result<u16, String> {
        if let Some(place) = (self.min..).zip(self.names).find(|(_, name)| **name == text) {
            return Ok(place.0);
        }
        match number(text) {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            Some(_) => Err(format!("must be {} to {}", self.min, self.max)),
            None if self.names.is_empty() => Err(format!("`{text}` is not a number")),
            None => Err(format!("`{text}` is neither a number nor a name such as {}", self.names[1])),
        }
    }
}

/// Checks the fields of an upper-case expression whose number of fields is already right.
///
/// # Errors
/// A sentence that names the field, its text and a right example.
pub(super) fn check(dialect: Dialect, texts: &[&str]) -> Result<(), String> {
    let fields = Field::all(dialect);
    if dialect == Dialect::Quartz {
        check_one_day_field(texts[3], texts[5])?;
    }
    for (field, text) in fields.iter().zip(texts) {
        let may_be_open = dialect == Dialect::Quartz && field.extras != Extras::None;
        if *text == "?" && !may_be_open {
            return Err(field.wrong(text, "`?` is only for the day fields of the quartz dialect, write `*`"));
        }
        if *text != "?" {
            field.check(text)?;
        }
        if dialect == Dialect::Unix {
            refuse_open_step(field, text)?;
        }
    }
    Ok(())
}

/// Quartz: exactly one of the day fields is `?`. With both given, croner would fire on either day and
/// other libraries only on both, so nobody could know what was meant; `*` is a value as well.
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

/// Unix: a step follows `*` or a range. `5/15` is Quartz's form, which Unix crons read differently.
fn refuse_open_step(field: &Field, text: &str) -> Result<(), String> {
    for item in text.split(',') {
        if let Some((from, step)) = item.split_once('/')
            && from != "*"
            && !from.contains('-')
        {
            let why = format!("a step needs a range, write `{from}-{}/{step}`", field.max);
            return Err(field.wrong(item, &why));
        }
    }
    Ok(())
}

/// A number of one to four digits and nothing else.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}
