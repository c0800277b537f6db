//! What can go wrong in a call, by what its caller can do about it.

use std::time::Duration;

use http::StatusCode;
use tsp_api::problem::Problem;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service answered, and refused.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// No answer: it may or may not have happened.
    #[error("no answer from the service: {}", causes(.0))]
    NoAnswer(#[source] reqwest::Error),
    /// The answer is not what this client knows: the address is not the service's, or it is newer.
    #[error("the answer ({status}) cannot be read: {why}")]
    Unreadable { status: StatusCode, why: String },
    /// The client cannot be built or the call cannot be written.
    #[error("{0}")]
    Usage(String),
}

/// An answer with a status of 400 or above.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.text())]
pub struct Refusal {
    pub status: StatusCode,
    /// What the service says; `None` when something before it answered, a proxy for example.
    pub problem: Option<Problem>,
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
    /// The beginning of an answer that is no problem document.
    pub excerpt: String,
}

/// The most characters of a foreign answer that are kept.
const EXCERPT_CHARS: usize = 200;

impl Refusal {
    pub(crate) fn new(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let problem: Option<Problem> = serde_json::from_slice(body).ok();
        let excerpt = match problem {
            Some(_) => String::new(),
            None => String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS).collect(),
        };
        Self { status, problem, retry_after, excerpt }
    }

    fn text(&self) -> String {
        match &self.problem {
            Some(problem) => problem_text(problem),
            None if self.excerpt.is_empty() => format!("the answer is {}", self.status),
            None => format!("the answer is {}: {}", self.status, self.excerpt),
        }
    }
}

impl Error {
    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Unreadable { status, .. } => Some(*status),
            Self::NoAnswer(_) | Self::Usage(_) => None,
        }
    }

    /// The service's own words, if it said some.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(refusal) => refusal.problem.as_ref(),
            _ => None,
        }
    }
}

/// Each bad field with what is wrong with it; the detail, which tells the first of them, where there are none.
fn problem_text(problem: &Problem) -> String {
    if problem.errors.is_empty() {
        return problem.detail.clone();
    }
    let each: Vec<String> =
        problem.errors.iter().map(|error| format!("`{}` {}", error.field, error.message)).collect();
    each.join("; ")
}

/// A reqwest error says what it was doing; why it failed is in its sources.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
