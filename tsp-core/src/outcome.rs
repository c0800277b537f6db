//! How an attempt came out: one closed vocabulary for every protocol (DESIGN.md section 9).

use std::borrow::Cow;
use std::fmt;

use crate::time::{Millis, Timestamp};

/// A short machine word for why (`http_status`, `timeout`, `worker_lost`, …).
pub type Reason = Cow<'static, str>;

/// The most bytes of a reason that are kept. What a handler says may be longer; the rows hold 64 KiB.
pub const REASON_BYTES_MAX: usize = 1_024;
/// The most bytes of an answer, or of the message of a completion or of progress, that are kept.
pub const EXCERPT_BYTES_MAX: usize = 16 * 1_024;

/// At most `most` bytes of `text`, cut between two characters.
pub fn capped(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A reason as it is kept.
pub(crate) fn kept_reason(reason: &Reason) -> Reason {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.clone();
    }
    Cow::Owned(capped(reason, REASON_BYTES_MAX).to_owned())
}

/// What a handler answers. Nothing else can come out of an attempt that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Retry(RetryDelay),
    /// Never again, whatever the retry policy allows.
    Fail,
    /// The receiver works on and will complete by API.
    Accepted,
    /// Ask again at this time; it is no failed attempt.
    Snooze {
        until: Timestamp,
    },
}

/// When a retry may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDelay {
    /// The retry policy's own delay, with jitter.
    Backoff,
    /// The receiver chose it for this task (`TSP-Result: retry; after=30`): taken as it is.
    Exactly(Millis),
    /// A `Retry-After` header: clamped (docs/reference/http-callbacks.md section 8).
    RetryAfter(Millis),
}

/// The outcome of one attempt with what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reason: Reason,
    pub http_status: Option<u16>,
    /// At most the first 4 KiB of the answer.
    pub excerpt: Option<Box<str>>,
    /// The whole config waits this long (429 and 503 with `Retry-After`).
    pub park: Option<Millis>,
}

impl Verdict {
    pub fn new(outcome: Outcome, reason: impl Into<Reason>) -> Self {
        Self { outcome, reason: reason.into(), http_status: None, excerpt: None, park: None }
    }

    pub fn done() -> Self {
        Self::new(Outcome::Done, "ok")
    }

    pub fn retry(reason: impl Into<Reason>) -> Self {
        Self::new(Outcome::Retry(RetryDelay::Backoff), reason)
    }

    pub fn fail(reason: impl Into<Reason>) -> Self {
        Self::new(Outcome::Fail, reason)
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }
}

/// How an attempt was closed, as it is stored and shown. The numbers are part of the storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OutcomeKind {
    Done = 1,
    Retry = 2,
    Fail = 3,
    /// Still open: the row is awaiting.
    Accepted = 4,
    Snooze = 5,
    /// Its process is gone.
    Lost = 6,
    /// Closed by a cancel while it was awaited.
    Cancelled = 7,
    /// Closed by a reset while it was awaited.
    Reset = 8,
}

impl OutcomeKind {
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Retry,
        Self::Fail,
        Self::Accepted,
        Self::Snooze,
        Self::Lost,
        Self::Cancelled,
        Self::Reset,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.code()) == code)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Fail => "fail",
            Self::Accepted => "accepted",
            Self::Snooze => "snooze",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            Self::Reset => "reset",
        }
    }
}

impl From<Outcome> for OutcomeKind {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Retry(_) => Self::Retry,
            Outcome::Fail => Self::Fail,
            Outcome::Accepted => Self::Accepted,
            Outcome::Snooze { .. } => Self::Snooze,
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
