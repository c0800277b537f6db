//! Transport errors and what they mean for the task (docs/reference/http-callbacks.md section 12).

use std::error::Error as _;
use std::io;

use http::StatusCode;
use rustix::io::Errno;
use thiserror::Error;
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::retry::with_jitter;
use tsp_core::time::{Millis, Timestamp};

use super::connector::ConnectError;
use super::resolver::LookupError;
use super::tls;

/// At least so long after it found no room a task is called again.
const AGAIN_AFTER: Millis = Millis::from_secs(2);

/// Why an exchange brought no complete answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error(transparent)]
    Connect(ConnectError),
    /// This process has no descriptor, or the machine no port, for another connection. Nothing was sent, and
    /// it is no fault of the receiver or the task.
    #[error("no room for another connection: {0}")]
    OutOfSockets(String),
    /// It took too long until it could be sent: somebody else may have begun the task. Nothing was sent.
    #[error("the lease of this worker is over")]
    LeaseOver,
    /// The total time-out; the receiver may have acted.
    #[error("no complete answer within the total time-out")]
    Timeout { status: Option<StatusCode> },
    /// The connection broke, or what came is no HTTP; the receiver may have acted.
    #[error("the exchange broke off: {error}")]
    Broken { error: hyper::Error, status: Option<StatusCode> },
}

/// What this process or machine lacks, as connections and look-ups tell it.
fn is_ours(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Refused(cause) if is_ours(cause) => Self::OutOfSockets(cause.to_string()),
            ConnectError::Lookup(LookupError::Failed(cause)) if is_ours(cause) => {
                Self::OutOfSockets(format!("the look-up failed: {cause}"))
            }
            _ => Self::Connect(error),
        }
    }
}

impl CallError {
    /// The reason code of the attempt.
    pub fn reason(&self) -> &'static str {
        if let Self::Broken { error, .. } = self
            && let Some(reason) = tls::refused_later(error)
        {
            return reason;
        }
        match self {
            Self::Connect(ConnectError::Denied(_)) => "egress_denied",
            Self::Connect(ConnectError::Lookup(_)) => "dns",
            Self::Connect(ConnectError::Refused(_)) => "connect_refused",
            Self::Connect(ConnectError::Tls(error)) => tls::reason(error),
            Self::Connect(ConnectError::Timeout) => "connect_timeout",
            Self::OutOfSockets(_) => "out_of_sockets",
            Self::LeaseOver => "lease_over",
            Self::Timeout { .. } => "timeout",
            Self::Broken { error, .. } if is_malformed(error) => "malformed_response",
            Self::Broken { .. } => "connection_broken",
        }
    }

    /// A refusal by policy is final; everything else may be better next time. What is our own fault is no
    /// failed attempt and is retried soon after `now`, spread by `jitter_fraction` (`0.0..1.0`), or all would
    /// come at once.
    pub fn verdict(&self, now: Timestamp, jitter_fraction: f64) -> Verdict {
        let verdict = match self {
            Self::OutOfSockets(_) => {
                let until = now.plus(with_jitter(AGAIN_AFTER, 1.0, jitter_fraction));
                Verdict::new(Outcome::Snooze { until }, self.reason())
            }
            Self::LeaseOver => Verdict::new(Outcome::Snooze { until: now }, self.reason()),
            Self::Connect(ConnectError::Denied(_)) => Verdict::fail(self.reason()),
            _ => Verdict::retry(self.reason()),
        };
        match self {
            Self::Timeout { status: Some(status) } | Self::Broken { status: Some(status), .. } => {
                verdict.with_status(status.as_u16())
            }
            _ => verdict,
        }
    }
}

/// What came is not HTTP. Nonsense inside a chunked body shows only in the error below it.
fn is_malformed(error: &hyper::Error) -> bool {
    let below = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.is_parse() || matches!(below, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    #[test]
    fn what_this_process_lacks_is_no_failed_attempt() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            let connect = ConnectError::Refused(errno.into());
            let look_up = ConnectError::Lookup(LookupError::Failed(Arc::new(errno.into())));
            for error in [connect, look_up] {
                let verdict = CallError::from(error).verdict(NOW, 0.5);
                let until = NOW.plus(Millis::from_secs(3));
                assert_eq!(
                    (verdict.outcome, &*verdict.reason),
                    (Outcome::Snooze { until }, "out_of_sockets")
                );
            }
        }
        for (error, reason) in [
            (ConnectError::Refused(Errno::CONNREFUSED.into()), "connect_refused"),
            (ConnectError::Refused(io::ErrorKind::TimedOut.into()), "connect_refused"),
            (ConnectError::Lookup(LookupError::NotFound), "dns"),
            (ConnectError::Timeout, "connect_timeout"),
        ] {
            assert_eq!(CallError::from(error).verdict(NOW, 0.5), Verdict::retry(reason));
        }
    }
}
