//! A cron expression in one of two dialects, in a time zone.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::calendar::Calendar;
use super::{ScheduleError, fields, search};
use crate::time::Timestamp;

/// Longest expression, in characters.
pub const EXPR_CHARS_MAX: usize = 128;

/// Longest name of a time zone that is looked up, in bytes; the longest in use has 38.
const TIMEZONE_BYTES_MAX: usize = 64;

/// Short names for whole expressions, the same in both dialects, and what they are in Quartz.
const NICKNAMES: [(&str, [&str; 6]); 6] = [
    ("@yearly", ["0", "0", "0", "1", "1", "?"]),
    ("@annually", ["0", "0", "0", "1", "1", "?"]),
    ("@monthly", ["0", "0", "0", "1", "*", "?"]),
    ("@weekly", ["0", "0", "0", "?", "*", "SUN"]),
    ("@daily", ["0", "0", "0", "*", "*", "?"]),
    ("@hourly", ["0", "0", "*", "*", "*", "?"]),
];

/// How the numbers and fields of an expression are read. Stored with the config and never guessed again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// `seconds minutes hours day-of-month month day-of-week [year]`; 1 is Sunday; one day field is `?`.
    Quartz,
    /// `minutes hours day-of-month month day-of-week`; 0 and 7 are Sunday; two day fields mean either.
    Unix,
}

impl Dialect {
    /// The name in API.md section 2.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quartz => "quartz",
            Self::Unix => "unix",
        }
    }

    /// The default: five fields are Unix; six, seven and the `@` names are Quartz.
    fn of(fields: &[&str]) -> Self {
        if fields.len() == 5 { Self::Unix } else { Self::Quartz }
    }
}

/// A checked cron expression. Cheap to clone; two are equal when their texts are.
#[derive(Clone)]
pub struct CronSpec {
    dialect: Dialect,
    expr: Arc<str>,
    timezone: Arc<str>,
    compiled: Arc<CompiledCron>,
}

/// What the texts mean, kept because parsing costs more than searching (cron reference, section 8).
struct CompiledCron {
    calendar: Calendar,
    zone: TimeZone,
}

impl CronSpec {
    /// Reads an expression (cron reference, sections 3 and 4); without a dialect it follows from the
    /// number of fields. Blanks and case of the text do not matter: the canonical text is kept.
    ///
    /// Whether it ever fires is not asked here, see [`super::Schedule::next_after`].
    ///
    /// # Errors
    /// The field `expr` or `timezone` with what is wrong about it and a right example.
    pub fn parse(expr: &str, dialect: Option<Dialect>, timezone: &str) -> Result<Self, ScheduleError> {
        let wrong = |message: String| ScheduleError::new("expr", message);
        if expr.chars().count() > EXPR_CHARS_MAX {
            return Err(wrong(format!("must be at most {EXPR_CHARS_MAX} characters")));
        }
        let texts: Vec<String> = expr.split_whitespace().map(str::to_ascii_uppercase).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let dialect = dialect.unwrap_or_else(|| Dialect::of(&texts));
        let (canonical, calendar) = match texts.as_slice() {
            [name, ..] if name.starts_with('@') => {
                let (name, fields) = nickname(&texts.join(" ")).map_err(wrong)?;
                (name.to_owned(), fields::read(Dialect::Quartz, fields).map_err(wrong)?)
            }
            fields => {
                check_count(dialect, fields.len()).map_err(wrong)?;
                (fields.join(" "), fields::read(dialect, fields).map_err(wrong)?)
            }
        };
        let (timezone, zone) = find_zone(timezone)?;
        Ok(Self {
            dialect,
            expr: canonical.into(),
            timezone: timezone.into(),
            compiled: Arc::new(CompiledCron { calendar, zone }),
        })
    }

    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The canonical text: single blanks, upper case (`@` names in lower case).
    pub fn expr(&self) -> &str {
        &self.expr
    }

    /// The IANA name of the zone.
    pub fn timezone(&self) -> &str {
        &self.timezone
    }

    pub(super) fn calendar(&self) -> &Calendar {
        &self.compiled.calendar
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.compiled.zone
    }

    /// The first slot strictly after `after`.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        search::next(self.calendar(), self.zone(), after)
    }

    /// The last slot at or before `at`.
    pub(super) fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        search::last_until(self.calendar(), self.zone(), at)
    }
}

impl PartialEq for CronSpec {
    fn eq(&self, other: &Self) -> bool {
        self.dialect == other.dialect && self.expr == other.expr && self.timezone == other.timezone
    }
}

impl Eq for CronSpec {}

impl fmt::Debug for CronSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronSpec({} `{}` in {})", self.dialect.as_str(), self.expr, self.timezone)
    }
}

fn nickname(text: &str) -> Result<(&'static str, &'static [&'static str]), String> {
    if let Some((name, fields)) = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok((name, fields));
    }
    let text = text.to_ascii_lowercase();
    Err(format!(
        "`{text}` is not supported, only {}; for a fixed interval use a schedule of type `every`",
        NICKNAMES.map(|(name, _)| name).join(", ")
    ))
}

fn check_count(dialect: Dialect, count: usize) -> Result<(), String> {
    match (dialect, count) {
        (_, 0) => Err("must not be empty; for example `0 0 2 * * ?`".to_owned()),
        (Dialect::Quartz, 6 | 7) | (Dialect::Unix, 5) => Ok(()),
        (Dialect::Quartz, _) => Err(format!(
            "the quartz dialect has 6 or 7 fields (seconds minutes hours day-of-month month \
             day-of-week [year]), not {count}; for example `0 0 2 * * ?`"
        )),
        (Dialect::Unix, _) => Err(format!(
            "the unix dialect has 5 fields (minutes hours day-of-month month day-of-week), not {count}; \
             for example `0 2 * * *`"
        )),
    }
}

/// The zone and the name under which the zone database knows it. Only names: an offset or a POSIX rule
/// would not follow a change of the law.
fn find_zone(name: &str) -> Result<(String, TimeZone), ScheduleError> {
    let unknown = || {
        ScheduleError::new(
            "timezone",
            format!("`{name}` is not the IANA name of a time zone; for example `Asia/Shanghai` or `UTC`"),
        )
    };
    let legible = (1..=TIMEZONE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+/".contains(&b));
    // Copies of the database that some systems keep beside it, `right` with leap seconds, and the two
    // names that stand for "no zone known".
    let first = name.split('/').next().unwrap_or_default();
    let is_copy = ["posix", "right"].iter().any(|copy| first.eq_ignore_ascii_case(copy));
    let is_none = ["Factory", "Etc/Unknown", "localtime", "posixrules"]
        .iter()
        .any(|none| name.eq_ignore_ascii_case(none));
    if !legible || is_copy || is_none {
        // The text itself may be long or unprintable, so it is not repeated when it is.
        return Err(if legible {
            unknown()
        } else {
            ScheduleError::new(
                "timezone",
                "must be the IANA name of a time zone; for example `Asia/Shanghai` or `UTC`",
            )
        });
    }
    let zone = TimeZone::get(name).map_err(|_| unknown())?;
    let canonical = zone.iana_name().unwrap_or(name).to_owned();
    Ok((canonical, zone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(expr: &str, dialect: Option<Dialect>) -> String {
        let error = CronSpec::parse(expr, dialect, "UTC").expect_err(expr);
        assert_eq!(error.field, "expr");
        assert!(!error.message.ends_with('.'), "{}", error.message);
        error.message
    }

    #[test]
    fn keeps_the_canonical_text() {
        for (expr, canonical, dialect) in [
            ("  0 0\t2  * * ? ", "0 0 2 * * ?", Dialect::Quartz),
            ("0 0 12 ? jan,Dec fri#l", "0 0 12 ? JAN,DEC FRI#L", Dialect::Quartz),
            ("0 0 12 1 1 ? 2030", "0 0 12 1 1 ? 2030", Dialect::Quartz),
            ("*/5 * * * mon-sun", "*/5 * * * MON-SUN", Dialect::Unix),
            ("@Daily", "@daily", Dialect::Quartz),
        ] {
            let spec = CronSpec::parse(expr, None, "Asia/Shanghai").unwrap();
            assert_eq!((spec.expr(), spec.dialect(), spec.timezone()), (canonical, dialect, "Asia/Shanghai"));
            assert_eq!(Some(&spec), CronSpec::parse(canonical, Some(dialect), "asia/shanghai").as_ref().ok());
        }
        let spec = CronSpec::parse("@daily", Some(Dialect::Unix), "UTC").unwrap();
        assert_eq!(format!("{spec:?}"), "CronSpec(unix `@daily` in UTC)");
    }

    #[test]
    fn refuses_in_our_own_words() {
        for (expr, words) in [
            ("", "must not be empty"),
            ("   ", "must not be empty"),
            ("* * * *", "6 or 7 fields"),
            ("0 0 0 * * ? 2027 1", "6 or 7 fields"),
            ("0 0 0 ? * 0", "day-of-week `0`: must be 1 to 7"),
            ("60 * * * * ?", "seconds `60`: must be 0 to 59"),
            ("0 0 12 L-31 * ?", "day-of-month `L-31`: the days counted back from the last one are 0 to 30"),
            ("0 0 12 L-W * ?", "counted back"),
            ("0 0 12 L5 * ?", "`L5` is not a number"),
            ("0 0 12 L/2 * ?", "`L/2` is not a number"),
            ("0 0 12 1-5W * ?", "`1-5` is not a number"),
            ("1.5 0 12 * * ?", "`1.5` is not a number"),
            ("0 1-5/0 * * * ?", "a step is 1 to 60"),
            ("0 0 12 ? * LW", "neither a number"),
            ("0 0 0 1 1 ? 2030-2027", "a range of years must rise"),
            ("0 0 0 1 1 ? 20270", "`20270` is not a number"),
            ("0 0 25 * * ?", "hours `25`: must be 0 to 23"),
            ("0 */0 * * * ?", "minutes `*/0`: a step is 1 to 60"),
            ("0 */90 * * * ?", "a step is 1 to 60"),
            ("0 0 0 ? * */8", "a step is 1 to 7"),
            ("@every 5s", "`@every 5s` is not supported"),
            ("@daily 5", "`@daily 5` is not supported"),
            ("@every", "type `every`"),
            ("@reboot", "`@reboot` is not supported"),
            ("0 0 0 ? * FOO", "`FOO` is neither a number nor a name"),
            ("0 0 0 H * ?", "`H` is not a number"),
            ("0 0 0 13 * 6", "use ? in one of the two"),
            ("* * * * * *", "use ? in one of the two"),
            ("0 0 0 ? * ?", "both `?`"),
            ("? 0 0 * * ?", "`?` is only for the day fields"),
            ("0 0 0 1,? * ?", "`?` must stand alone"),
            ("0 0 0 1,,2 * ?", "empty item"),
            ("0 0 0 , * ?", "empty item"),
            ("0 0 0 ? * 6#6", "after `#`"),
            ("0 0 0 ? * +6", "neither a number"),
            ("FRI 0 0 * * ?", "`FRI` is not a number"),
            ("0 0 0 1MON * ?", "not a number"),
            ("0 0 0 1/2/3 * ?", "a step is"),
            ("0 0 0 1-2-3 * ?", "`2-3` is not a number"),
            ("0 0 0 32W * ?", "must be 1 to 31"),
            ("é 0 0 * * ?", "`é` is not a number"),
        ] {
            let message = error(expr, Some(Dialect::Quartz));
            assert!(message.contains(words), "{expr}: {message}");
        }
        assert!(error("0 0 * * *", Some(Dialect::Quartz)).contains("not 5"));
        assert!(error(&"0".repeat(129), None).contains("at most 128"));
    }

    #[test]
    fn the_unix_dialect_has_its_own_rules() {
        for expr in
            ["0 0 13 * FRI", "0 0 * * 0", "0 0 * * 7", "0 0 * * FRI-SUN", "5-59/15 * * * *", "0 0 L * *"]
        {
            assert_eq!(CronSpec::parse(expr, None, "UTC").expect(expr).dialect(), Dialect::Unix);
        }
        for (expr, words) in [
            ("0 0 * * 8", "must be 0 to 7"),
            ("0 0 ? * 1", "write `*`"),
            ("5/15 * * * *", "write `5-59/15`"),
            ("0 0 * * SUN-SUN", "write `SUN`"),
            ("0 0 * * FRI-MON", "write `FRI-SAT,SUN-MON`"),
            ("0 0 * * 5-1", "write `5-7,0-1`"),
            ("0 0 0 * * ?", "5 fields"),
        ] {
            let message = error(expr, Some(Dialect::Unix));
            assert!(message.contains(words), "{expr}: {message}");
        }
    }

    #[test]
    fn knows_zones_by_name_only() {
        for name in [
            "",
            "Mars/Olympus",
            "+08:00",
            "EST5EDT4",
            "../UTC",
            "posix/UTC",
            "right/UTC",
            "Factory",
            "Etc/Unknown",
            "U TC",
        ] {
            let error = CronSpec::parse("0 0 2 * * ?", None, name).expect_err(name);
            assert_eq!(error.field, "timezone");
        }
        assert_eq!(CronSpec::parse("@daily", None, "utc").unwrap().timezone(), "UTC");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "(([0-9*?LW#/,@-]|MON|JAN|SUN){0,6} ){4,7}") {
            for expr in [&text, &near] {
                for dialect in [None, Some(Dialect::Quartz), Some(Dialect::Unix)] {
                    if let Ok(spec) = CronSpec::parse(expr, dialect, "UTC") {
                        // What is accepted keeps its meaning when it is read again.
                        prop_assert_eq!(CronSpec::parse(spec.expr(), Some(spec.dialect()), "UTC"), Ok(spec));
                    }
                }
                let _ = CronSpec::parse("@daily", None, expr);
            }
        }
    }
}
