//! What part of its life an open task is in, as the indexes of both back ends have it.

use super::Status;

/// Coarser than [`Status`]: queued and executing are one, so that a begin changes no index entry. The numbers are part
/// of the storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    Scheduled = 0,
    /// Queued or executing.
    Busy = 1,
    Paused = 2,
    Awaiting = 3,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Busy, Self::Paused, Self::Awaiting];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| i64::from(phase.code()) == code)
    }
}

impl Status {
    /// `None` for what has ended: it is no longer among the open rows.
    pub const fn phase(self) -> Option<Phase> {
        match self {
            Self::Scheduled => Some(Phase::Scheduled),
            Self::Queued | Self::Executing => Some(Phase::Busy),
            Self::Paused => Some(Phase::Paused),
            Self::Awaiting => Some(Phase::Awaiting),
            Self::Ended => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_open_status_has_a_phase_and_its_code() {
        let table = Status::ALL.map(|status| (status.code(), status.phase().map(Phase::code)));
        let expected = [(0, Some(0)), (10, Some(1)), (30, Some(1)), (40, Some(2)), (45, Some(3)), (50, None)];
        assert_eq!(table, expected);
        assert!(Phase::ALL.iter().all(|phase| Phase::from_code(i64::from(phase.code())) == Some(*phase)));
        assert_eq!(Phase::from_code(4), None);
    }
}
