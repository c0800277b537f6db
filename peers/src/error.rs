//! What can keep a server from being there.

use std::io;

/// Why a server did not start or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The program is not on this machine.
    #[error("there is no `{program}` here: run `{install}`")]
    Missing {
        /// The executable that was looked for.
        program: &'static str,
        /// The command that installs it.
        install: &'static str,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The refusal.
        source: io::Error,
    },
    /// The server ended, or was not ready in time.
    #[error("`{server}` {why}; it wrote:\n{log}")]
    NotReady {
        /// The executable.
        server: &'static str,
        /// What happened instead.
        why: String,
        /// All that the server wrote since this start.
        log: String,
    },
    /// A server or a helper program answered with a failure.
    #[error("`{request}` failed: {said}")]
    Refused {
        /// What was asked.
        request: String,
        /// What came back.
        said: String,
    },
}

impl PeerError {
    /// Names what was tried when the operating system refuses it.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}
