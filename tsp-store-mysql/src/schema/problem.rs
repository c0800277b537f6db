//! What can be wrong with a database that answers.

use tsp_store::error::StoreError;

/// What keeps a database from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    pub text: String,
}

/// What a problem takes to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// A migration.
    NotMigrated,
    /// The build that upgraded the database.
    OtherBuild,
    /// The end of a move, or a backup.
    TablesMissing,
    /// Somebody who puts the server right.
    Server,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn of_server(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Server, text)
    }
}

/// This binary cannot use the database.
impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        Self::Unusable(problem.text)
    }
}
