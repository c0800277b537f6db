//! `GET /apps/{app}/configs`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::config as wire;
use tsp_api::list::Page;
use tsp_core::Name;
use tsp_core::config::{Kind, TaskConfig};
use tsp_store::catalog::Scope;

use super::wire::config_document;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// How many configs are looked at in one go.
const CHUNK: usize = 500;
/// How many a call looks at: a page may be short and still have a `next_cursor` (API.md section 1).
const LOOKED_AT_MAX: usize = 20_000;

/// List the configs of an app
#[utoipa::path(
    get, path = "/apps/{app}/configs", tag = "configs",
    params(
        ("app" = String, Path),
        ("kind" = Option<wire::Kind>, Query),
        ("enabled" = Option<bool>, Query),
        ("paused" = Option<bool>, Query),
        ("q" = Option<String>, Query, description = "Part of the name, description or owner; case does not matter."),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "By name.", body = Page<wire::Config>))
)]
pub(super) async fn list_configs(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    mut query: Query,
) -> ApiResult<axum::Json<Page<wire::Config>>> {
    let app = lookup::app(&state, &caller, &app, &[Scope::Read]).await?;
    let filter = Filter::read(&mut query);
    let limit = query.limit();
    let after = query.cursor()?;
    query.finish()?;
    let mut after = after.map(|name| Name::new(&name).map_err(|_| Query::bad_cursor())).transpose()?;

    let now = state.now();
    let mut items = Vec::new();
    let mut looked_at = 0;
    let more = loop {
        let chunk = state.store.config_cache().configs_of(app.id, after.as_ref(), CHUNK);
        let last = chunk.len() < CHUNK;
        for config in chunk {
            if items.len() == limit || looked_at == LOOKED_AT_MAX {
                return Ok(page(items, after.map(|name| query.next_cursor(name.as_str()))));
            }
            looked_at += 1;
            after = Some(config.spec.name.clone());
            if filter.accepts(&config) && lookup::is_open_to(&caller, &config) {
                items.push(config_document(&config, now));
            }
        }
        if last {
            break None;
        }
    };
    Ok(page(items, more))
}

fn page(items: Vec<wire::Config>, next_cursor: Option<String>) -> axum::Json<Page<wire::Config>> {
    axum::Json(Page { items, next_cursor })
}

struct Filter {
    kind: Option<Kind>,
    enabled: Option<bool>,
    paused: Option<bool>,
    /// In lower case.
    text: Option<String>,
}

impl Filter {
    fn read(query: &mut Query) -> Self {
        Self {
            kind: query.read("kind", |text| match text {
                "delayed" => Ok(Kind::Delayed),
                "cron" => Ok(Kind::Cron),
                _ => Err("must be `delayed` or `cron`"),
            }),
            enabled: query.bool("enabled"),
            paused: query.bool("paused"),
            text: query.text("q").map(|text| text.to_lowercase()),
        }
    }

    fn accepts(&self, config: &TaskConfig) -> bool {
        let spec = &config.spec;
        let contains = |text: &str| {
            let names = [spec.name.as_str(), &spec.description, &spec.owner];
            names.iter().any(|name| name.to_lowercase().contains(text))
        };
        self.kind.is_none_or(|kind| spec.kind == kind)
            && self.enabled.is_none_or(|enabled| spec.enabled == enabled)
            && self.paused.is_none_or(|paused| config.paused.is_some() == paused)
            && self.text.as_deref().is_none_or(contains)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::testing::{Server, cron, delayed};

    fn names(page: &Value) -> Vec<&str> {
        page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn filters_and_pages() {
        let server = Server::start().await;
        server.app("trade").await;
        let list = "/api/v1/apps/trade/configs";
        for name in ["a", "b", "c"] {
            server.post(list, delayed(name)).await.expect(201);
        }
        server.post(list, cron("nightly")).await.expect(201);
        server.post(&format!("{list}/b/pause"), Value::Null).await.expect(200);
        server.post(&format!("{list}/c/disable"), Value::Null).await.expect(200);
        for (query, found) in [
            ("", vec!["a", "b", "c", "nightly"]),
            ("?kind=cron", vec!["nightly"]),
            ("?paused=true", vec!["b"]),
            ("?enabled=true&paused=false&kind=delayed", vec!["a"]),
            ("?q=NIGHT", vec!["nightly"]),
        ] {
            let page = server.get(&format!("{list}{query}")).await.expect(200);
            assert_eq!((names(&page), page.get("next_cursor")), (found, None), "{query}");
        }
        let first = server.get(&format!("{list}?limit=3")).await.expect(200);
        assert_eq!(names(&first), ["a", "b", "c"]);
        let next = first["next_cursor"].as_str().unwrap();
        let rest = server.get(&format!("{list}?cursor={next}")).await.expect(200);
        assert_eq!((names(&rest), rest.get("next_cursor")), (vec!["nightly"], None));
        let other = server.get(&format!("{list}?kind=cron&cursor={next}")).await;
        assert_eq!(other.refused(), (400, "invalid_cursor".into()));
        assert_eq!(server.get(&format!("{list}?kind=x&paused=1")).await.fields(), ["kind", "paused"]);
    }
}
