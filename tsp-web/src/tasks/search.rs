//! `GET /apps/{app}/tasks`: open and ended tasks together, filtered, in pages.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tsp_api::task::json::TaskJson;
use tsp_api::task::{ConfigName, StatusNumber, TaskOrder, TaskPage, TaskResult, TaskState};
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
        ("config" = Option<Vec<ConfigName>>, Query, explode = false, description = "The name of a config; more with commas. One that does not exist has no tasks."),
        ("key" = Option<String>, Query, description = "The business key.", min_length = 1, max_length = 200),
        ("state" = Option<Vec<TaskState>>, Query, explode = false, description = "One or more, with commas."),
        ("status" = Option<Vec<StatusNumber>>, Query, explode = false, description = "State codes, with commas: 0, 10, 30, 40, 45, 50."),
        ("result" = Option<Vec<TaskResult>>, Query, explode = false, description = "One or more, with commas."),
        ("due_from" = Option<tsp_api::Time>, Query, description = "Inclusive."),
        ("due_to" = Option<tsp_api::Time>, Query, description = "Exclusive."),
        ("created_from" = Option<tsp_api::Time>, Query, description = "Inclusive."),
        ("created_to" = Option<tsp_api::Time>, Query, description = "Exclusive."),
        ("parent_id" = Option<tsp_api::Id>, Query, description = "Parts of this task."),
        ("order" = inline(Option<TaskOrder>), Query, description = "`-id` (default), `id`, `-ended_at` (ended ones), `due_at` (open ones)."),
        ("include" = Option<String>, Query, pattern = "^payload$", description = "`payload` shows payloads too."),
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
    let app = lookup::app(&state, &caller, &app, &[catalog::Scope::Read]).await?;
    let payload = read_include(&mut query);
    let asked = read_query(&state, &caller, &app, &mut query).await?;
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
        Self(ids.into_iter().filter_map(|id| state.store.config_cache().config(id)).collect())
    }

    /// `None` when the config was deleted just now.
    fn get(&self, id: ConfigId) -> Option<&TaskConfig> {
        let at = self.0.binary_search_by_key(&id, |config| config.id).ok()?;
        Some(&self.0[at])
    }
}

/// `None` when no task can fit.
async fn read_query(
    state: &WebState,
    caller: &Caller,
    app: &App,
    query: &mut Query,
) -> ApiResult<Option<TaskQuery>> {
    let configs = query.given("config").then(|| query.list("config", Name::new));
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

    let Some(scope) = read_scope(state, caller, app, configs).await? else { return Ok(None) };
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

/// The configs that are searched, as far as the caller may know of them. `None`: there are none.
async fn read_scope(
    state: &WebState,
    caller: &Caller,
    app: &App,
    names: Option<Vec<Name>>,
) -> ApiResult<Option<Scope>> {
    let Some(names) = names else {
        let configs = state.store.config_cache().configs_of(app.id, None, usize::MAX);
        if configs.iter().all(|config| lookup::is_open_to(caller, config)) {
            return Ok(Some(Scope::App(app.id)));
        }
        let open = configs.iter().filter(|config| lookup::is_open_to(caller, config));
        return Ok(scope_of(open.map(|config| config.id).collect()));
    };
    let mut found = Vec::new();
    for name in names {
        let config = lookup::find(state, || state.store.config_cache().find_config(app.id, &name)).await?;
        found.extend(config.filter(|config| lookup::is_open_to(caller, config)).map(|config| config.id));
    }
    Ok(scope_of(found))
}

fn scope_of(configs: Vec<ConfigId>) -> Option<Scope> {
    match configs.as_slice() {
        [] => None,
        [only] => Some(Scope::Config(*only)),
        _ => Some(Scope::Configs(configs)),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tsp_core::Millis;
    use tsp_core::outcome::Outcome;

    use super::super::testing::Service;

    fn ids(page: &Value) -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Five tasks, a minute apart: one ended, one executing, three waiting, the last of another config.
    async fn filled() -> (Service, Vec<String>) {
        let service = Service::start().await;
        let mut made = Vec::new();
        for (config, delay) in [
            ("close-order", "0s"),
            ("close-order", "0s"),
            ("close-order", "3h"),
            ("close-order", "2h"),
            ("open", "1h"),
        ] {
            let key = format!("k{}", made.len());
            let body =
                format!("{{\"config\":\"{config}\",\"key\":\"{key}\",\"delay\":\"{delay}\",\"payload\":1}}");
            made.push(service.submit(&body).await);
            service.clock.advance(Millis::from_ms(20_000));
        }
        let begun = service.begin(None).await;
        service.finish(begun[0], 1, Outcome::Done).await;
        (service, made)
    }

    #[tokio::test]
    async fn filters() {
        let (service, made) = filled().await;
        let found = async |filter: &str| {
            let page = service.get(&format!("/apps/trade/tasks?order=id&{filter}")).await;
            assert_eq!(page.status, 200, "{filter} {:?}", page.body);
            let found = ids(&page.json());
            found.iter().map(|id| made.iter().position(|made| made == id).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("").await, [0, 1, 2, 3, 4]);
        assert_eq!(found("config=open").await, [4]);
        assert_eq!(found("config=nope").await, Vec::<usize>::new());
        assert_eq!(found("config=open,close-order").await, [0, 1, 2, 3, 4]);
        assert_eq!(found("config=nope,open").await, [4]);
        assert_eq!(found("config=nope,neither").await, Vec::<usize>::new());
        assert_eq!(found("config=open,close-order&state=ended,scheduled&key=k4").await, [4]);
        assert_eq!(found("key=k2").await, [2]);
        assert_eq!(found("state=ended,executing").await, [0, 1]);
        assert_eq!(found("status=0").await, [2, 3, 4]);
        assert_eq!(found("status=0,30&state=executing,ended").await, [1]);
        assert_eq!(found("status=0&state=executing").await, Vec::<usize>::new());
        assert_eq!(found("result=succeeded,failed").await, [0]);
        assert_eq!(found("result=failed").await, Vec::<usize>::new());
        assert_eq!(found("due_from=2026-11-21T20:00:00+08:00&due_to=2026-11-21T13:00:00Z").await, [3]);
        assert_eq!(found("created_from=2026-11-21T10:30:40Z&created_to=2026-11-21T10:31:20Z").await, [2, 3]);
        let until = "created_from=2026-11-21T10:30:40Z&created_to=";
        let near = found(&format!("{until}2090-01-01T00:00:00Z")).await;
        for year in [2094, 2162, 2200, 9998] {
            assert_eq!(found(&format!("{until}{year}-12-31T23:59:59Z")).await, near, "{year}");
        }
        assert_eq!(found(&format!("{until}9999-12-31T23:59:59Z")).await, near);
        assert_eq!(found("parent_id=1").await, Vec::<usize>::new());
    }

    #[tokio::test]
    async fn orders_and_pages() {
        let (service, made) = filled().await;
        let mut path = "/apps/trade/tasks?limit=2&order=due_at".to_owned();
        let mut seen = Vec::new();
        loop {
            let page = service.get(&path).await.json();
            assert!(page["items"].as_array().unwrap().len() <= 2);
            seen.extend(ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/apps/trade/tasks?limit=2&order=due_at&cursor={cursor}");
        }
        let by_due: Vec<_> = [1, 4, 3, 2].iter().map(|&at: &usize| made[at].clone()).collect();
        assert_eq!(seen, by_due);
        let latest = service.get("/apps/trade/tasks?limit=1").await.json();
        assert_eq!(ids(&latest), [made[4].clone()]);
        assert!(latest["items"][0].get("payload").is_none());
        let ended = service.get("/apps/trade/tasks?order=-ended_at&include=payload").await.json();
        assert_eq!((ids(&ended), &ended["items"][0]["payload"]), (vec![made[0].clone()], &1.into()));
        let cursor = latest["next_cursor"].as_str().unwrap();
        let other = service.get(&format!("/apps/trade/tasks?limit=1&state=ended&cursor={cursor}")).await;
        assert_eq!(other.refused(), (400, "invalid_cursor".to_owned()));
    }

    #[tokio::test]
    async fn wrong_queries_are_named() {
        let service = Service::start().await;
        for wrong in [
            "state=done",
            "status=1",
            "status=00",
            "result=ok",
            "due_from=now",
            "parent_id=x",
            "order=key",
            "include=all",
            "limit=0",
            "config=A",
            "config=",
            "config=open,",
            "config=open,A",
            "what=1",
        ] {
            let answer = service.get(&format!("/apps/trade/tasks?{wrong}")).await;
            assert_eq!(answer.refused(), (400, "invalid_query".to_owned()), "{wrong}");
        }
        assert_eq!(service.get("/apps/nope/tasks").await.refused().0, 404);
    }
}
