//! Tasks: submit, find, change, complete (API.md section 3).
//!
//! One file per operation. What an operator may do by id and by business key is one file with two handlers.

mod attempts;
mod batch;
mod cancel;
mod change;
mod complete;
mod fields;
mod get;
mod pause;
mod postpone;
mod progress;
mod replay;
mod resume;
mod run;
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
        .routes(routes!(cancel::by_id))
        .routes(routes!(cancel::by_key))
        .routes(routes!(pause::by_id))
        .routes(routes!(pause::by_key))
        .routes(routes!(resume::by_id))
        .routes(routes!(resume::by_key))
        .routes(routes!(postpone::by_id))
        .routes(routes!(postpone::by_key))
        .routes(routes!(run::by_id))
        .routes(routes!(run::by_key))
        .routes(routes!(replay::by_id))
        .routes(routes!(complete::by_id))
        .routes(routes!(progress::by_id))
        .routes(routes!(attempts::by_id))
}
