//! Tasks: submit, find, change, complete (API.md section 3).
//!
//! One file per operation; what an operator does by id and by business key alike is one `operation!`.

mod attempts;
mod batch;
mod cancel;
mod change;
mod complete;
mod fields;
mod get;
mod operations;
mod postpone;
mod progress;
mod search;
mod subject;
pub(crate) mod submit;
mod trace;
mod view;

pub(crate) use trace::TraceParent;

#[cfg(test)]
mod testing;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::WebState;

/// Every operation on tasks, below `/api/v1`.
pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new()
        .routes(routes!(submit::submit, search::search))
        .routes(routes!(batch::submit_batch))
        .routes(routes!(get::by_id))
        .routes(routes!(get::by_key))
        .routes(routes!(cancel::cancel_task))
        .routes(routes!(cancel::cancel_key))
        .routes(routes!(operations::pause_task))
        .routes(routes!(operations::pause_key))
        .routes(routes!(operations::resume_task))
        .routes(routes!(operations::resume_key))
        .routes(routes!(postpone::postpone_task))
        .routes(routes!(postpone::postpone_key))
        .routes(routes!(operations::run_task))
        .routes(routes!(operations::run_key))
        .routes(routes!(operations::replay_task))
        .routes(routes!(complete::by_id))
        .routes(routes!(progress::by_id))
        .routes(routes!(attempts::by_id))
}
