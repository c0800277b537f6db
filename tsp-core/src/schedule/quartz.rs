//! Every form of the dialect and thousands of previews, compared with what Quartz itself answered
//! (`tools/quartz-golden`). A difference must be one that the guide explains, and then our slots must be those
//! of the plain reading.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Instant};

use super::reference::Reading;
use super::{CronSpec, Dialect};
use crate::time::Timestamp;

const GOLDEN: &str = include_str!("../../testdata/quartz.tsv");

/// The year 2101: what was asked of Quartz ends there.
const END: Timestamp = Timestamp::from_ms(4_133_980_800_000);

/// Where ours differ by intent (guide, "Coming from Quartz").
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rule {
    /// A change of the clock lies beside the first slot that differs.
    Clock,
    /// Quartz loses some days and times of a nearest weekday.
    NearestWeekday,
    /// Quartz reads three letters of a name and at most a range, `#` or `L` behind them.
    BehindNames,
    /// Quartz heeds the first day of a list or range with `#` only.
    NthOfSeveral,
}

struct Line<'a> {
    zone: &'a str,
    expr: &'a str,
    /// `None`: refused.
    asked: Option<QuartzAnswer>,
}

struct QuartzAnswer {
    from: i64,
    fires: Vec<i64>,
    ends: bool,
}

fn lines() -> impl Iterator<Item = Line<'static>> {
    let mut zone = "";
    GOLDEN.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        if let Some(name) = line.strip_prefix("zone ") {
            zone = name;
            return None;
        }
        let parts: Vec<&str> = line.split('\t').collect();
        if parts[1] == "refused" {
            return Some(Line { zone, expr: parts[0], asked: None });
        }
        let from = parts[1].parse().unwrap();
        let mut at = from;
        let steps = parts[2].split(' ').filter(|step| *step != "end");
        let fires = steps.map(|step| {
            at += step.parse::<i64>().unwrap();
            at
        });
        let asked = QuartzAnswer { from, fires: fires.collect(), ends: parts[2].ends_with("end") };
        Some(Line { zone, expr: parts[0], asked: Some(asked) })
    })
}

/// Our slots after `from` in seconds, one more than `fires` if Quartz says that there is none.
fn ours(spec: &CronSpec, asked: &QuartzAnswer) -> Vec<i64> {
    let mut at = Timestamp::from_ms(asked.from * 1_000);
    let mut slots = Vec::new();
    while slots.len() < asked.fires.len() + usize::from(asked.ends)
        && let Some(next) = spec.next_after(at)
        && next < END
    {
        slots.push(next.ms() / 1_000);
        at = next;
    }
    slots
}

fn rule(line: &Line<'_>, first: i64) -> Option<Rule> {
    let fields: Vec<&str> = line.expr.split(' ').collect();
    let first = Instant::from_second(first).unwrap();
    let zone = TimeZone::get(line.zone).unwrap();
    let day = SignedDuration::from_hours(25);
    if zone.following(first - day).next().is_some_and(|change| change.timestamp() <= first + day) {
        return Some(Rule::Clock);
    }
    if fields[3].contains('W') {
        return Some(Rule::NearestWeekday);
    }
    if fields[5].contains('#') && (fields[5].contains(',') || fields[5].contains('-')) {
        return Some(Rule::NthOfSeveral);
    }
    let has_more_behind = |item: &str| {
        let name: String = item.chars().take_while(char::is_ascii_alphabetic).collect();
        (name.len() >= 3 && item.contains('/')) || (name.len() > 3 && item.contains(['-', '#']))
    };
    let is_named = [fields[4], fields[5]].into_iter().flat_map(|field| field.split(',')).any(has_more_behind);
    is_named.then_some(Rule::BehindNames)
}

/// The rule behind a difference; `Err` when there is none, or when ours are not what the rules say.
fn explain(line: &Line<'_>, asked: &QuartzAnswer, ours: &[i64]) -> Result<Rule, String> {
    let same = ours.iter().zip(&asked.fires).take_while(|(ours, theirs)| ours == theirs).count();
    let first = [ours.get(same), asked.fires.get(same)].into_iter().flatten().min();
    let about = || {
        format!("`{}` in {} from {}: {ours:?}, Quartz {:?}", line.expr, line.zone, asked.from, asked.fires)
    };
    let rule = rule(line, *first.unwrap()).ok_or_else(about)?;
    let until = ours.iter().chain(&asked.fires).max().unwrap();
    let [from, until] = [asked.from, *until].map(|at| Instant::from_second(at).unwrap());
    let zone = TimeZone::get(line.zone).unwrap();
    let plain = Reading::new(line.expr, Dialect::Quartz).slots(&zone, from, until, ours.len());
    let plain: Vec<i64> = plain.into_iter().map(Instant::as_second).collect();
    if plain == ours { Ok(rule) } else { Err(format!("{} the plain reading {plain:?}", about())) }
}

#[test]
fn quartz_agrees_but_for_what_the_guide_explains() {
    let (mut seen, mut zones, mut differ) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut unexplained = Vec::new();
    for line in lines() {
        let Some(asked) = &line.asked else { continue };
        seen.insert(line.expr);
        *zones.entry(line.zone).or_insert(0) += 1;
        let spec = match CronSpec::parse(line.expr, Some(Dialect::Quartz), line.zone) {
            Ok(spec) => spec,
            Err(error) => {
                unexplained.push(format!("`{}`: {error}", line.expr));
                continue;
            }
        };
        let ours = ours(&spec, asked);
        if ours == asked.fires {
            continue;
        }
        match explain(&line, asked, &ours) {
            Ok(rule) => *differ.entry(rule).or_insert(0) += 1,
            Err(words) => unexplained.push(words),
        }
    }
    let previews: u32 = zones.values().sum();
    assert!(unexplained.is_empty(), "{} of {previews}:\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(seen.len() >= 200 && zones.len() >= 33 && previews >= 11_000, "{} {}", seen.len(), zones.len());
    let rules = [Rule::Clock, Rule::NearestWeekday, Rule::BehindNames, Rule::NthOfSeveral];
    assert_eq!(differ.keys().copied().collect::<Vec<_>>(), rules, "of {previews} previews differ {differ:?}");
}

#[test]
fn what_quartz_refuses_is_refused_or_ours_by_intent() {
    let beyond: BTreeSet<&str> =
        ["0 0 9 ? * 2#1,4#3", "0 0 9 ? * 6L,2L", "0 0 9 ? * FRI#L", "0 0/60 * * * ?", "0 0 */24 * * ?"]
            .into();
    let refused = lines().filter(|line| line.asked.is_none()).map(|line| line.expr);
    let taken = refused.filter(|expr| CronSpec::parse(expr, Some(Dialect::Quartz), "UTC").is_ok());
    assert_eq!(taken.collect::<BTreeSet<_>>(), beyond);
}
