//! `GET /apps/{app}/keys`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::api_key as wire;
use tsp_api::list::Page;
use tsp_store::catalog::Scope;

use super::shown;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// List the API keys of an app
#[utoipa::path(
    get, path = "/apps/{app}/keys", tag = "keys",
    params(
        ("app" = String, Path),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "Oldest first, expired ones too. The keys themselves are not kept.", body = Page<wire::Key>))
)]
pub(super) async fn list_keys(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    mut query: Query,
) -> ApiResult<axum::Json<Page<wire::Key>>> {
    let app = lookup::app(&state, &caller, &app, &[Scope::Admin]).await?;
    let limit = query.limit();
    let after = query.cursor()?;
    query.finish()?;
    let after: i64 = match after {
        Some(id) => id.parse().map_err(|_| Query::bad_cursor())?,
        None => 0,
    };
    let mut keys = state.store.keys(Some(app.id)).await?;
    keys.retain(|key| key.id.get() > after);
    keys.sort_by_key(|key| key.id);
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next_cursor = keys.last().filter(|_| more).map(|last| query.next_cursor(&last.id.to_string()));
    Ok(axum::Json(Page { items: keys.into_iter().map(shown).collect(), next_cursor }))
}
