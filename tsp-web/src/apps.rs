//! Apps (API.md section 2): one file for each operation.

mod create;
mod delete;
mod get;
mod list;
mod patch;

use std::sync::Arc;

use tsp_api::Errors;
use tsp_api::app as wire;
use tsp_api::app::{DESCRIPTION_CHARS_MAX, OWNER_CHARS_MAX};
use tsp_store::catalog::App;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::configs::text;
use crate::state::WebState;

pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new().routes(routes!(list::list_apps, create::create_app)).routes(routes!(
        get::get_app,
        patch::patch_app,
        delete::delete_app
    ))
}

fn shown(app: &App) -> wire::App {
    wire::App {
        name: app.name.to_string(),
        description: app.description.clone(),
        owner: app.owner.clone(),
        created_at: app.created_at.into(),
        updated_at: app.updated_at.into(),
    }
}

fn read_description(given: Option<String>, errors: &mut Errors) -> String {
    text(given, DESCRIPTION_CHARS_MAX, "description", errors)
}

fn read_owner(given: Option<String>, errors: &mut Errors) -> String {
    text(given, OWNER_CHARS_MAX, "owner", errors)
}
