//! The service itself: health, metrics, its own documents, and what only a development server has.

mod archive;
mod dev;
mod docs;
mod health;
mod inbox;
mod metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::WebState;

pub(crate) use inbox::Inbox;

/// What is documented and stands outside `/api/v1`.
pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// Documents, and what only a development server has.
pub(crate) fn undocumented(document: Bytes, is_dev: bool) -> Router<Arc<WebState>> {
    let router = docs::routes(document);
    if is_dev { router.merge(dev::routes()) } else { router }
}
