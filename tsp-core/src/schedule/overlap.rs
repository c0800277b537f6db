//! What a slot does when the previous occurrence is still open (cron reference, section 10).

use crate::time::Timestamp;

/// The policy of a schedule for a slot that comes while the previous occurrence is *open*: not all its
/// tasks have ended, retries included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overlap {
    /// Occurrences are independent.
    Allow,
    /// No occurrence; the slot is recorded as skipped.
    #[default]
    Skip,
    /// One occurrence waits, a row without tasks, until the open one has ended.
    QueueOne,
}

/// What to do with a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverlapDecision {
    /// Insert the occurrence and its tasks.
    Make,
    /// Insert nothing and record the slot as skipped.
    Skip,
    /// Keep the slot as the waiting occurrence; one that waits already takes this slot's `execute_at`.
    Wait,
}

/// Decides a slot from the rows as they are in the transaction that would insert it.
///
/// `previous_open`: an occurrence of the config with tasks is open. `waiting`: the `execute_at` of the
/// occurrence that waits without tasks, if one does. A waiting one counts as open even when nothing else
/// is: it is the next to run, and a slot must not overtake it.
pub fn overlap_decision(
    overlap: Overlap,
    previous_open: bool,
    waiting: Option<Timestamp>,
) -> OverlapDecision {
    let open = previous_open || waiting.is_some();
    match overlap {
        Overlap::Skip if open => OverlapDecision::Skip,
        Overlap::QueueOne if open => OverlapDecision::Wait,
        _ => OverlapDecision::Make,
    }
}

#[cfg(test)]
mod tests {
    use super::OverlapDecision::{Make, Skip, Wait};
    use super::*;

    #[test]
    fn follows_the_table() {
        let waiting = Some(Timestamp::ZERO);
        for (overlap, [free, open, both, only_waiting]) in [
            (Overlap::Allow, [Make, Make, Make, Make]),
            (Overlap::Skip, [Make, Skip, Skip, Skip]),
            (Overlap::QueueOne, [Make, Wait, Wait, Wait]),
        ] {
            assert_eq!(overlap_decision(overlap, false, None), free);
            assert_eq!(overlap_decision(overlap, true, None), open);
            assert_eq!(overlap_decision(overlap, true, waiting), both);
            assert_eq!(overlap_decision(overlap, false, waiting), only_waiting);
        }
        assert_eq!(Overlap::default(), Overlap::Skip);
    }
}
