//! From the wall clock to instants: what becomes of a time that a zone's clock shows twice or never (cron
//! reference, section 5).

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneTransition};
use jiff::{SignedDuration, Timestamp as Instant, Zoned};

use super::calendar::{CYCLE_YEARS, Calendar};
use crate::time::Timestamp;

/// Longer than any clock was ever put back at once: Kwajalein lived a day twice.
const FOLD_MAX: SignedDuration = SignedDuration::from_hours(25);

/// The first slot strictly after `after`; `None` when the expression never fires again.
pub(super) fn next(calendar: &Calendar, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let from = zoned(zone, after)?;
    let found =
        if calendar.is_fixed_time() { next_fixed(calendar, &from) } else { next_shown(calendar, &from) };
    found.map(timestamp)
}

/// The last slot at or before `at`.
pub(super) fn last_until(calendar: &Calendar, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let until = zoned(zone, at)?;
    let found =
        if calendar.is_fixed_time() { last_fixed(calendar, &until) } else { last_shown(calendar, &until) };
    found.map(timestamp)
}

/// `at` on the wall clock of the zone, cut to its second: slots lie on whole seconds, and a search
/// "strictly after" a second is the same for every instant within it.
pub(super) fn zoned(zone: &TimeZone, at: Timestamp) -> Option<Zoned> {
    let instant = Instant::from_second(at.ms().div_euclid(1_000)).ok()?;
    Some(instant.to_zoned(zone.clone()))
}

fn timestamp(instant: Instant) -> Timestamp {
    Timestamp::from_ms(instant.as_millisecond())
}

/// A fixed time of day is looked for on the calendar alone and becomes an instant after. Later times never
/// become earlier instants, so the first that lies ahead is the next.
fn next_fixed(calendar: &Calendar, from: &Zoned) -> Option<Instant> {
    let mut wall = from.datetime();
    loop {
        wall = calendar.next_from(second_after(wall)?)?;
        if let Some(instant) = fixed_instant(from.time_zone(), wall)
            && instant > from.timestamp()
        {
            return Some(instant);
        }
    }
}

fn last_fixed(calendar: &Calendar, until: &Zoned) -> Option<Instant> {
    // In the second pass of a repeat, times ahead on the wall have come already.
    let passed = match until.time_zone().to_ambiguous_timestamp(until.datetime()).offset() {
        AmbiguousOffset::Fold { before, after } if until.offset() == after => after.duration_until(before),
        _ => SignedDuration::ZERO,
    };
    let mut wall = calendar.last_until(until.datetime().checked_add(passed).ok()?)?;
    loop {
        if let Some(instant) = fixed_instant(until.time_zone(), wall)
            && instant <= until.timestamp()
        {
            return Some(instant);
        }
        wall = calendar.last_until(second_before(wall)?)?;
    }
}

/// In a gap the first instant after it, in a repeat the first of the two; `None` for a day that a country
/// left out when it changed sides of the date line.
fn fixed_instant(zone: &TimeZone, wall: DateTime) -> Option<Instant> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(wall).ok()
        }
        AmbiguousOffset::Gap { before, after } => {
            let gap = Gap::around(zone, wall, before, after)?;
            (!gap.leaves_out_day_of(wall)).then_some(gap.after)
        }
    }
}

/// Everything else follows the clock on the wall: each instant at which it shows a time of the calendar.
fn next_shown(calendar: &Calendar, from: &Zoned) -> Option<Instant> {
    let zone = from.time_zone();
    let ahead = next_ahead(calendar, from);
    // A clock that is put back soon shows times again that lie behind on the wall.
    let again = folds_after(zone, from).find_map(|fold| {
        let wall = calendar.next_from(fold.to)?;
        let is_behind = fold.to <= from.datetime();
        if is_behind && wall < fold.from { fold.offset.to_timestamp(wall).ok() } else { None }
    });
    [ahead, again].into_iter().flatten().min()
}

fn next_ahead(calendar: &Calendar, from: &Zoned) -> Option<Instant> {
    let mut wall = second_after(from.datetime())?;
    loop {
        wall = calendar.next_from(wall)?;
        match from.time_zone().to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, after } => {
                let first = before.to_timestamp(wall).ok()?;
                return if first > from.timestamp() { Some(first) } else { after.to_timestamp(wall).ok() };
            }
            AmbiguousOffset::Gap { before, after } => {
                // Whoever falls into every gap of a cycle falls into all of them.
                wall = Gap::around(from.time_zone(), wall, before, after)?.to;
                if wall.year().saturating_sub(from.year()) > CYCLE_YEARS {
                    return None;
                }
            }
        }
    }
}

fn last_shown(calendar: &Calendar, until: &Zoned) -> Option<Instant> {
    let zone = until.time_zone();
    let behind = last_behind(calendar, until);
    let before = folds_before(zone, until).find_map(|fold| {
        let wall = calendar.last_until(second_before(fold.from)?)?;
        let is_ahead = fold.from > until.datetime();
        if is_ahead && wall >= fold.to { fold.offset.to_timestamp(wall).ok() } else { None }
    });
    [behind, before].into_iter().flatten().max()
}

fn last_behind(calendar: &Calendar, until: &Zoned) -> Option<Instant> {
    let mut wall = until.datetime();
    loop {
        wall = calendar.last_until(wall)?;
        match until.time_zone().to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => return offset.to_timestamp(wall).ok(),
            AmbiguousOffset::Fold { before, after } => {
                let second = after.to_timestamp(wall).ok()?;
                return if second <= until.timestamp() {
                    Some(second)
                } else {
                    before.to_timestamp(wall).ok()
                };
            }
            AmbiguousOffset::Gap { before, after } => {
                wall = second_before(Gap::around(until.time_zone(), wall, before, after)?.from)?;
            }
        }
    }
}

/// A range of the wall clock that is left out when it is put forward: from `from`, inclusive, to `to`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub from: DateTime,
    pub to: DateTime,
    /// The first instant after it.
    pub after: Instant,
}

impl Gap {
    /// The gap of a change of the clock, if it goes forward.
    pub(super) fn of(change: &TimeZoneTransition<'_>, before: Offset) -> Option<Self> {
        let after = change.timestamp();
        let (from, to) = (before.to_datetime(after), change.offset().to_datetime(after));
        (from < to).then_some(Self { from, to, after })
    }

    /// The gap that `wall` lies in, between these offsets.
    fn around(zone: &TimeZone, wall: DateTime, before: Offset, after: Offset) -> Option<Self> {
        let earlier = after.to_timestamp(wall).ok()?;
        let change = zone.following(earlier).find(|change| change.offset() == after)?;
        Self::of(&change, before)
    }

    pub(super) fn leaves_out_day_of(&self, wall: DateTime) -> bool {
        let midnight = wall.date().to_datetime(jiff::civil::Time::midnight());
        let next = wall.date().tomorrow().map(|day| day.to_datetime(jiff::civil::Time::midnight()));
        self.from <= midnight && next.is_ok_and(|next| next <= self.to)
    }
}

/// A range of the wall clock that is shown twice when it is put back: from `to`, inclusive, to `from`.
struct Fold {
    from: DateTime,
    to: DateTime,
    /// Of the pass that is asked for.
    offset: Offset,
}

/// The repeats whose second pass begins within [`FOLD_MAX`] after `from`.
fn folds_after<'z>(zone: &'z TimeZone, from: &Zoned) -> impl Iterator<Item = Fold> + use<'z> {
    let (start, mut before) = (from.timestamp(), from.offset());
    zone.following(start)
        .take_while(move |change| change.timestamp().duration_since(start) <= FOLD_MAX)
        .filter_map(move |change| {
            let (at, offset) = (change.timestamp(), change.offset());
            let fold = Fold { from: before.to_datetime(at), to: offset.to_datetime(at), offset };
            before = offset;
            (fold.to < fold.from).then_some(fold)
        })
}

/// The repeats whose second pass began within [`FOLD_MAX`] before `until`, or at it.
fn folds_before<'z>(zone: &'z TimeZone, until: &Zoned) -> impl Iterator<Item = Fold> + use<'z> {
    let end = until.timestamp();
    let changes = end.checked_add(SignedDuration::from_secs(1)).map(|after| zone.preceding(after));
    let near = changes.into_iter().flatten();
    near.take_while(move |change| end.duration_since(change.timestamp()) <= FOLD_MAX).filter_map(|change| {
        let (at, after) = (change.timestamp(), change.offset());
        let offset = zone.to_offset(at.checked_sub(SignedDuration::from_secs(1)).ok()?);
        let fold = Fold { from: offset.to_datetime(at), to: after.to_datetime(at), offset };
        (fold.to < fold.from).then_some(fold)
    })
}

fn second_after(wall: DateTime) -> Option<DateTime> {
    wall.checked_add(SignedDuration::from_secs(1)).ok()
}

fn second_before(wall: DateTime) -> Option<DateTime> {
    wall.checked_sub(SignedDuration::from_secs(1)).ok()
}
