//! How a command fails: an exit code, what is wrong, and what to do next.

use std::fmt;
use std::process::ExitCode;

use crate::output::visible;

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The exit codes that scripts rely on (API.md section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
    advice: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), advice: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    #[cfg(not(feature = "cluster"))]
    pub(crate) fn no_cluster() -> Self {
        Self::usage("this executable was built without the cluster: without MySQL, MariaDB and NSQ")
            .advise("build the whole: `make build` (target/release/tsp), or `cargo build -p tsp`")
    }

    /// What the reader should do next.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Advice for when there is no better one.
    pub(crate) fn or_advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.get_or_insert_with(|| advice.into());
        self
    }

    /// Says what was being done.
    pub(crate) fn within(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server's words may quote what a caller or receiver wrote.
        write!(f, "error: {}", visible(&self.message))?;
        match &self.advice {
            Some(advice) => write!(f, "\nhelp: {}", visible(advice)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
