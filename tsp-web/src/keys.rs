//! API keys of an app (API.md section 2): one file for each operation.

mod create;
mod delete;
mod list;

use std::sync::Arc;

use tsp_api::api_key as wire;
use tsp_store::catalog::{ApiKey, Scope};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::WebState;

pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new()
        .routes(routes!(list::list_keys, create::create_key))
        .routes(routes!(delete::delete_key))
}

fn shown(key: ApiKey) -> wire::Key {
    wire::Key {
        id: key.id.into(),
        name: key.name,
        scopes: key.scopes.into_iter().map(write_scope).collect(),
        prefix: key.prefix,
        created_at: key.created_at.into(),
        expires_at: key.expires_at.map(Into::into),
        rate_limit: key
            .rate_limit
            .map(|limit| wire::RateLimit { count: Some(limit.count), per: Some(limit.per.into()) }),
    }
}

const fn write_scope(scope: Scope) -> wire::Scope {
    match scope {
        Scope::Read => wire::Scope::Read,
        Scope::Submit => wire::Scope::Submit,
        Scope::Manage => wire::Scope::Manage,
        Scope::Admin => wire::Scope::Admin,
        Scope::Worker => wire::Scope::Worker,
    }
}

const fn read_scope(scope: wire::Scope) -> Scope {
    match scope {
        wire::Scope::Read => Scope::Read,
        wire::Scope::Submit => Scope::Submit,
        wire::Scope::Manage => Scope::Manage,
        wire::Scope::Admin => Scope::Admin,
        wire::Scope::Worker => Scope::Worker,
    }
}
