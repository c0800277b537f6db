//! `GET /apps/{app}/tasks`: open and ended tasks together, filtered, in pages.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tsp_api::task::json::TaskJson;
use tsp_api::task::{TaskPage, TaskResult, TaskState};
use tsp_core::config::TaskConfig;
use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{ConfigId, Name, TaskId, TaskKey};
use tsp_store::catalog::{self, App};
use tsp_store::search::{Bookmark, Order, Page, Scope, TaskQuery};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

use super::view;

/// [`TaskPage`], borrowed.
#[derive(Serialize)]
struct Document<'a> {
    items: Vec<TaskJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Searches tasks, open and ended together.
///
/// A call reads at most 20,000 rows, so a page may be short or empty and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/apps/{app}/tasks", tag = "tasks", operation_id = "list_tasks",
    params(
        ("app" = String, Path, description = "The app."),
        ("config" = Option<String>, Query, description = "The name of a config."),
        ("key" = Option<String>, Query, description = "The business key."),
        ("state" = Option<Vec<TaskState>>, Query, explode = false, description = "One or more, with commas."),
        ("status" = Option<Vec<u8>>, Query, explode = false, description = "State codes, with commas: 0, 10, 30, 40, 45, 50."),
        ("result" = Option<Vec<TaskResult>>, Query, explode = false, description = "One or more, with commas."),
        ("due_from" = Option<tsp_api::Time>, Query, description = "Inclusive."),
        ("due_to" = Option<tsp_api::Time>, Query, description = "Exclusive."),
        ("created_from" = Option<tsp_api::Time>, Query, description = "Inclusive."),
        ("created_to" = Option<tsp_api::Time>, Query, description = "Exclusive."),
        ("parent_id" = Option<tsp_api::Id>, Query, description = "Parts of this task."),
        ("order" = Option<String>, Query, description = "`-id` (default), `id`, `-ended_at` (ended ones), `due_at` (open ones)."),
        ("include" = Option<String>, Query, description = "`payload` shows payloads too."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "Of a page; 50 by default."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
    ),
    responses((status = 200, description = "A page.", body = TaskPage)),
)]
pub(crate) async fn search(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    mut query: Query,
) -> ApiResult {
    let app = lookup::app(&state, &caller, &app, &[catalog::Scope::Read])?;
    let payload = read_include(&mut query);
    let asked = read_query(&state, &app, &mut query)?;
    let page = match asked {
        Some(asked) => state.store.search(asked).await?,
        None => Page::default(),
    };
    let configs = Configs::of(&state, &page.tasks);
    let items = page.tasks.iter().filter_map(|task| {
        let config = configs.get(task.config)?;
        Some(view::shown(task, config, payload))
    });
    let next_cursor = page.next.map(|mark| query.next_cursor(&format!("{}:{}", mark.at, mark.id)));
    view::json(StatusCode::OK, &Document { items: items.collect(), next_cursor })
}

/// The configs of a page's tasks.
struct Configs(Vec<Arc<TaskConfig>>);

impl Configs {
    fn of(state: &WebState, tasks: &[Task]) -> Self {
        let mut ids: Vec<ConfigId> = tasks.iter().map(|task| task.config).collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into_iter().filter_map(|id| state.store.book().config(id)).collect())
    }

    /// `None` when the config was deleted just now.
    fn get(&self, id: ConfigId) -> Option<&TaskConfig> {
        let at = self.0.binary_search_by_key(&id, |config| config.id).ok()?;
        Some(&self.0[at])
    }
}

/// `None` when no task can fit.
fn read_query(state: &WebState, app: &App, query: &mut Query) -> ApiResult<Option<TaskQuery>> {
    let config = query.read("config", Name::new);
    let key = query.read("key", TaskKey::new);
    let statuses = read_statuses(query);
    let results = query.list("result", |word| {
        let known = EndResult::ALL.into_iter().find(|result| result.as_str() == word);
        known.ok_or("must be of `succeeded`, `failed`, `cancelled`, `expired`, `skipped`")
    });
    let (due_from, due_to) = (query.time("due_from"), query.time("due_to"));
    let (created_from, created_to) = (query.time("created_from"), query.time("created_to"));
    let parent = query.read("parent_id", str::parse::<TaskId>);
    let order = query.read("order", read_order).unwrap_or_default();
    let limit = query.limit();
    let after = query.cursor()?.as_deref().map(read_bookmark).transpose()?;
    query.finish()?;

    let scope = match config {
        None => Scope::App(app.id),
        // A config that does not exist has no tasks.
        Some(name) => match state.store.book().find_config(app.id, &name) {
            Some(config) => Scope::Config(config.id),
            None => return Ok(None),
        },
    };
    let Some(statuses) = statuses else { return Ok(None) };
    Ok(Some(TaskQuery {
        scope,
        key,
        statuses,
        results,
        due_from,
        due_to,
        created_from,
        created_to,
        parent,
        order,
        after,
        limit,
    }))
}

/// `state` and `status` are two forms of one filter; both given, both must fit. `None`: nothing can.
fn read_statuses(query: &mut Query) -> Option<Vec<Status>> {
    let by_word = query.list("state", |word| {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == word);
        known.ok_or("must be of `scheduled`, `queued`, `executing`, `paused`, `awaiting`, `ended`")
    });
    let by_code = query.list("status", |code| {
        let known = Status::ALL.into_iter().find(|status| status.code().to_string() == code);
        known.ok_or("must be of 0, 10, 30, 40, 45, 50")
    });
    if by_word.is_empty() || by_code.is_empty() {
        return Some(if by_word.is_empty() { by_code } else { by_word });
    }
    let both: Vec<Status> = by_word.into_iter().filter(|status| by_code.contains(status)).collect();
    if both.is_empty() { None } else { Some(both) }
}

fn read_order(text: &str) -> Result<Order, &'static str> {
    match text {
        "-id" => Ok(Order::IdDesc),
        "id" => Ok(Order::IdAsc),
        "-ended_at" => Ok(Order::EndedDesc),
        "due_at" => Ok(Order::DueAsc),
        _ => Err("must be `-id`, `id`, `-ended_at` or `due_at`"),
    }
}

fn read_include(query: &mut Query) -> bool {
    let included = query.list("include", |word| match word {
        "payload" => Ok(()),
        _ => Err("can only be `payload`"),
    });
    !included.is_empty()
}

fn read_bookmark(text: &str) -> ApiResult<Bookmark> {
    let (at, id) = text.split_once(':').ok_or_else(Query::bad_cursor)?;
    let at = at.parse().map_err(|_| Query::bad_cursor())?;
    let id = id.parse::<i64>().map_err(|_| Query::bad_cursor())?;
    Ok(Bookmark { at, id: TaskId::new(id) })
}
