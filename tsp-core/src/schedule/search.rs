//! The search for slots on the calendar: croner, called with our points in time.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};

use crate::time::Timestamp;

/// The longest gap of a zone's clock that croner crosses. Longer ones are whole days that a country left
/// out when it changed sides of the date line, as Samoa did in 2011.
const GAP_CROSSED_MAX: SignedDuration = SignedDuration::from_hours(2);

/// How many changes of the clock are looked at for such a gap: about four years of daylight saving.
const TRANSITIONS_MAX: usize = 8;

/// The first slot strictly after `after`; `None` when the expression never fires again.
///
/// A question that ends with `None` costs tens of milliseconds, so it is asked when a schedule is saved
/// and not in a loop.
pub(super) fn next(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let from = zoned(zone, after)?;
    let found = cron.find_next_occurrence(&from, false).ok().or_else(|| {
        // croner gives up at a gap longer than it crosses, with the error it also has for "never". Going
        // on behind the gap tells the two apart.
        let behind = first_instant_behind_long_gap(zone, &from)?;
        cron.find_next_occurrence(&behind, true).ok()
    })?;
    let found = Timestamp::from_ms(found.timestamp().as_millisecond());
    // The promise of this function, whatever the library does: a caller that walks must get ahead.
    (found > after).then_some(found)
}

/// The last slot at or before `at`.
pub(super) fn last_until(cron: &Cron, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let from = zoned(zone, at)?;
    let found = cron.find_previous_occurrence(&from, true).ok()?;
    let found = Timestamp::from_ms(found.timestamp().as_millisecond());
    (found <= at).then_some(found)
}

/// `at` on the wall clock of the zone, cut to its second: slots lie on whole seconds, and a search
/// "strictly after" a second is the same for every instant within it.
pub(super) fn zoned(zone: &TimeZone, at: Timestamp) -> Option<Zoned> {
    let instant = jiff::Timestamp::from_second(at.ms().div_euclid(1_000)).ok()?;
    Some(instant.to_zoned(zone.clone()))
}

fn first_instant_behind_long_gap(zone: &TimeZone, from: &Zoned) -> Option<Zoned> {
    let mut offset = from.offset();
    for change in zone.following(from.timestamp()).take(TRANSITIONS_MAX) {
        let ahead = change.offset().duration_since(offset);
        if ahead > GAP_CROSSED_MAX {
            return Some(change.timestamp().to_zoned(zone.clone()));
        }
        offset = change.offset();
    }
    None
}
