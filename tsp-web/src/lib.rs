//! The HTTP API of TSP.
//!
//! [`router`] makes the routes from a [`WebState`]; [`serve`] answers on a listener. Every operation is a
//! file of its own: handler, OpenAPI document and tests together. The modules named below are what all of
//! them share.
//!
//! * [`auth`]: who calls, and what they may do. [`rate_limit`]: how often.
//! * [`body`], [`query`], [`path`]: what they send, read strictly. [`schema_check`] names every wrong field.
//! * [`error`]: what they get when it is wrong; [`middleware`] gives it the id of its [`request`].
//! * [`idempotency`]: how a repeat gets the first answer.
//!
//! This crate does not know the queue, the fetcher or the wiring: it is handed [`ports`].

mod apps;
pub mod auth;
pub mod body;
mod configs;
pub mod error;
pub mod idempotency;
mod in_flight;
mod keys;
pub mod lookup;
pub mod middleware;
mod observe;
mod openapi;
mod parking;
pub mod path;
pub mod ports;
pub mod query;
pub mod rate_limit;
pub mod request;
mod room;
pub mod schema_check;
mod serve;
mod service;
pub mod state;
mod tasks;
#[cfg(test)]
mod testing;
mod topology;

pub use error::ApiError;
pub use ports::{DevHooks, Readiness, Topology, WakeHints};
pub use serve::serve;
pub use state::{WebDependencies, WebSettings, WebState};

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;

use openapi::Access;

/// All routes. The state is shared with the wiring, which keeps nothing else of this crate.
pub fn router(state: Arc<WebState>) -> Router {
    let (router, document) = operations().split_for_parts();
    let access = Access { dev: state.dev.is_some(), metrics_open: state.settings.metrics_open };
    let document = openapi::finish(document, access).to_string().into();
    edged(router.merge(service::undocumented(document, state.dev.is_some())), state)
}

/// Health and metrics alone: of a process that has not the role `web`.
pub fn service_router(state: Arc<WebState>) -> Router {
    edged(service::routes().split_for_parts().0, state)
}

fn edged(router: Router<Arc<WebState>>, state: Arc<WebState>) -> Router {
    router
        .fallback(middleware::no_route)
        .method_not_allowed_fallback(middleware::no_method)
        .layer(from_fn_with_state(state.clone(), middleware::wrap_request))
        .with_state(state)
}

/// The OpenAPI document of a server with the default settings.
pub fn openapi_document() -> serde_json::Value {
    openapi::finish(operations().into_openapi(), Access::default())
}

/// Every documented operation.
fn operations() -> OpenApiRouter<Arc<WebState>> {
    let api = OpenApiRouter::new()
        .merge(apps::routes())
        .merge(keys::routes())
        .merge(configs::routes())
        .merge(tasks::routes())
        .merge(topology::routes());
    OpenApiRouter::with_openapi(openapi::base()).merge(service::routes()).nest("/api/v1", api)
}
