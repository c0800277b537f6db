//! Transport errors and what they mean for the task (docs/reference/http-callbacks.md section 12).

use std::error::Error as _;
use std::io;

use http::StatusCode;
use thiserror::Error;
use tsp_core::outcome::Verdict;

use super::connector::ConnectError;
use super::tls;

/// Why an exchange brought no complete answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error(transparent)]
    Connect(ConnectError),
    /// The total time-out; the callee may have acted.
    #[error("no complete answer within the total time-out")]
    Timeout { status: Option<StatusCode> },
    /// The connection broke, or what came is no HTTP; the callee may have acted.
    #[error("the exchange broke off: {error}")]
    Broken { error: hyper::Error, status: Option<StatusCode> },
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
            Self::Timeout { .. } => "timeout",
            Self::Broken { error, .. } if is_malformed(error) => "malformed_response",
            Self::Broken { .. } => "connection_broken",
        }
    }

    /// A refusal by policy is final; everything else may be better next time.
    pub fn verdict(&self) -> Verdict {
        let verdict = match self {
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
