//! Searches, page by page.

use http::Method;
use tsp_api::task::{TaskPage, TaskResult, TaskState};

use crate::client::Client;
use crate::error::Result;
use crate::request::Request;

/// What to search for. Empty fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListTasks {
    /// A name; more with commas.
    pub config: Option<String>,
    pub key: Option<String>,
    pub states: Vec<TaskState>,
    pub results: Vec<TaskResult>,
    /// RFC 3339; `from` is inclusive, `to` exclusive.
    pub due_from: Option<String>,
    pub due_to: Option<String>,
    pub created_from: Option<String>,
    pub created_to: Option<String>,
    pub parent_id: Option<String>,
    /// `-id` (default), `id`, `-ended_at`, `due_at`.
    pub order: Option<String>,
    /// Of a page, 1 to 500.
    pub limit: Option<u16>,
    pub with_payload: bool,
}

/// The pages of one search.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    app: &'a str,
    filter: ListTasks,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    Cursor(String),
    End,
}

impl Client {
    /// Open and ended tasks together.
    ///
    /// ```no_run
    /// # async fn call(tsp: tsp_client::Client) -> tsp_client::Result<()> {
    /// use tsp_client::{ListTasks, TaskState};
    ///
    /// let filter = ListTasks { states: vec![TaskState::Paused], ..ListTasks::default() };
    /// let mut pages = tsp.list("trade", filter);
    /// while let Some(page) = pages.next().await? {
    ///     page.items.iter().for_each(|task| println!("{} {}", task.id, task.due_at));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list<'a>(&'a self, app: &'a str, filter: ListTasks) -> Pages<'a> {
        Pages { client: self, app, filter, next: Next::First }
    }
}

impl Pages<'_> {
    /// The next page; it may be short or empty and not the last. `None` after the last.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]. The same page can then be asked for again.
    pub async fn next(&mut self) -> Result<Option<TaskPage>> {
        let cursor = match &self.next {
            Next::First => None,
            Next::Cursor(cursor) => Some(cursor.as_str()),
            Next::End => return Ok(None),
        };
        let mut request = self.filter.query(self.client.call(Method::GET, ["apps", self.app, "tasks"]));
        if let Some(cursor) = cursor {
            request = request.query("cursor", cursor);
        }
        let page: TaskPage = request.send_json().await?;
        self.next = page.next_cursor.clone().map_or(Next::End, Next::Cursor);
        Ok(Some(page))
    }
}

impl ListTasks {
    fn query(&self, request: Request) -> Request {
        let states = comma_list(self.states.iter().map(|state| state.as_str()));
        let results = comma_list(self.results.iter().map(|result| result.as_str()));
        let limit = self.limit.map(|limit| limit.to_string());
        [
            ("config", self.config.as_deref()),
            ("key", self.key.as_deref()),
            ("state", states.as_deref()),
            ("result", results.as_deref()),
            ("due_from", self.due_from.as_deref()),
            ("due_to", self.due_to.as_deref()),
            ("created_from", self.created_from.as_deref()),
            ("created_to", self.created_to.as_deref()),
            ("parent_id", self.parent_id.as_deref()),
            ("order", self.order.as_deref()),
            ("limit", limit.as_deref()),
            ("include", self.with_payload.then_some("payload")),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .fold(request, |request, (name, value)| request.query(name, value))
    }
}

fn comma_list<'a>(words: impl Iterator<Item = &'a str>) -> Option<String> {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { None } else { Some(words.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_a_query() {
        let client = Client::builder("http://a").build().unwrap();
        let filter = ListTasks {
            states: vec![TaskState::Scheduled, TaskState::Paused],
            due_from: Some("2026-11-21T18:30:00+08:00".to_owned()),
            limit: Some(10),
            with_payload: true,
            ..ListTasks::default()
        };
        let url = filter.query(client.call(Method::GET, ["apps", "trade", "tasks"])).url().unwrap();
        assert_eq!(
            url.query().unwrap(),
            "state=scheduled%2Cpaused&due_from=2026-11-21T18%3A30%3A00%2B08%3A00&limit=10&include=payload"
        );
    }
}
