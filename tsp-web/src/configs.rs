//! Configs (API.md section 2): one file for each operation.

mod barrier;
#[cfg(test)]
mod barrier_tests;
mod create;
mod delete;
#[cfg(test)]
mod dry_run_tests;
mod fires;
mod get;
mod hold;
mod list;
mod patch;
mod precondition;
mod replace;
mod run;
mod save;
mod submit_freeze;
mod turns;
mod wire;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::WebState;

pub(crate) use turns::Turns;
pub(crate) use wire::text;

pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new()
        .routes(routes!(list::list_configs, create::create_config))
        .routes(routes!(get::get_config, replace::replace_config, patch::patch_config, delete::delete_config))
        .routes(routes!(hold::pause_config))
        .routes(routes!(hold::resume_config))
        .routes(routes!(hold::enable_config))
        .routes(routes!(hold::disable_config))
        .routes(routes!(run::run_config))
        .routes(routes!(fires::config_fires))
        .routes(routes!(fires::preview_schedule))
}
