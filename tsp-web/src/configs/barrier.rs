//! A change of a config is answered when every living node has applied it (DESIGN.md section 6).

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::time::{Duration, Instant};
use tsp_api::cluster::PendingChange;
use tsp_api::config::Notice;
use tsp_store::StoreError;

use crate::error::ApiResult;
use crate::state::WebState;

/// How long an answer waits for the slowest node.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL_FIRST: Duration = Duration::from_millis(50);
const POLL_LAST: Duration = Duration::from_millis(200);

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Reach {
    Everywhere,
    /// Some node has not applied it yet, or nobody could be asked; this is its number.
    Pending(i64),
}

impl Reach {
    /// `done` where the change is everywhere, else 202.
    pub(super) fn answer(self, done: impl IntoResponse) -> Response {
        self.answer_with(None, done)
    }

    /// The same of a change that did something beside; `done` says that itself.
    pub(super) fn answer_with(self, notice: Option<Notice>, done: impl IntoResponse) -> Response {
        match self {
            Self::Everywhere => done.into_response(),
            Self::Pending(config_seq) => {
                (StatusCode::ACCEPTED, axum::Json(PendingChange { config_seq, notice })).into_response()
            }
        }
    }
}

/// Whether this store applies each change at once, so that nobody has to be waited for.
pub(super) async fn is_immediate(state: &WebState) -> ApiResult<bool> {
    // No change has this number.
    Ok(state.store.applied_by_all(i64::MAX).await?)
}

/// Waits until every living node has applied the newest change that this one knows of. It is made by now, so
/// whatever goes wrong here only means that its reach is not known.
pub(super) async fn everywhere(state: &WebState) -> Reach {
    let seq = state.store.config_cache().newest();
    let end = Instant::now() + PATIENCE;
    let reached = async {
        let mut pause = POLL_FIRST;
        while !is_applied(state.store.applied_by_all(seq).await, seq) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_LAST);
        }
    };
    match tokio::time::timeout_at(end, reached).await {
        Ok(()) => Reach::Everywhere,
        Err(_) => Reach::Pending(seq),
    }
}

fn is_applied(answer: Result<bool, StoreError>, seq: i64) -> bool {
    answer.unwrap_or_else(|error| {
        tracing::warn!(seq, "cannot ask who has applied a config change: {error}");
        false
    })
}
