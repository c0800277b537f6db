//! The server's side of `tsp config`: what is there, and making it so.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, Method};
use serde_json::{Map, Value, json};
use tsp_client::{Client, Error};

use super::plan::{Configs, Current, Plan, Step};
use crate::failure::{Failure, Result};

/// The most items of a page.
const PAGE: &str = "500";

/// Configs of some apps, as the server has them.
#[derive(Debug, Default)]
pub(crate) struct Remote {
    /// Those that exist.
    pub(crate) apps: BTreeSet<String>,
    pub(crate) configs: Configs,
}

impl Remote {
    /// Of these apps; those that do not exist are left out.
    pub(crate) async fn of(client: &Client, apps: &BTreeSet<String>) -> Result<Self> {
        let mut remote = Self::default();
        for app in apps {
            match list(client, &format!("/apps/{app}/configs")).await {
                Ok(bodies) => remote.add(app, bodies)?,
                Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(remote)
    }

    /// Of all apps that the key may read.
    pub(crate) async fn all(client: &Client) -> Result<Self> {
        let apps = list(client, "/apps").await?;
        let names = apps.iter().filter_map(|app| app.get("name").and_then(Value::as_str));
        Self::of(client, &names.map(str::to_owned).collect()).await
    }

    fn add(&mut self, app: &str, bodies: Vec<Map<String, Value>>) -> Result {
        self.apps.insert(app.to_owned());
        for body in bodies {
            let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
            let version = body.get("version").and_then(Value::as_i64);
            let (Some(name), Some(version)) = (name, version) else {
                return Err(Failure::failed("the server sent a config without `name` or `version`"));
            };
            self.configs.insert((app.to_owned(), name), Current { version, body });
        }
        Ok(())
    }
}

/// Every item of a list, page by page.
async fn list(client: &Client, path: &str) -> Result<Vec<Map<String, Value>>, Error> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut request = client.request(Method::GET, path).query("limit", PAGE);
        if let Some(cursor) = &cursor {
            request = request.query("cursor", cursor);
        }
        let page: BTreeMap<String, Value> = request.send().await?.json()?;
        let found = page.get("items").and_then(Value::as_array).into_iter().flatten();
        items.extend(found.filter_map(Value::as_object).cloned());
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
}

/// Does what the plan says, in its order; what was done before a failure stays done.
pub(crate) async fn carry_out(client: &Client, plan: &Plan) -> Result {
    for step in &plan.steps {
        carry_out_step(client, step).await.map_err(|error| {
            let failure = Failure::from(error);
            failure
                .within(&step.title())
                .or_advise("what stands above it in the plan is done; mend this and apply again")
        })?;
    }
    Ok(())
}

async fn carry_out_step(client: &Client, step: &Step) -> Result<(), Error> {
    let request = match step {
        Step::Unchanged { .. } => return Ok(()),
        Step::CreateApp { app } => client.request(Method::POST, "/apps").json(&json!({ "name": app })),
        Step::Create { document } => {
            client.request(Method::POST, &format!("/apps/{}/configs", document.app)).json(&document.body)
        }
        Step::Update { document, version, .. } => client
            .request(Method::PUT, &format!("/apps/{}/configs/{}", document.app, document.name))
            .header(IF_MATCH, &etag(*version))
            .json(&document.body),
        Step::Delete { app, name, version } => client
            .request(Method::DELETE, &format!("/apps/{app}/configs/{name}"))
            .header(IF_MATCH, &etag(*version)),
    };
    request.send().await.map(|_| ())
}

/// The plan holds for the version it was made from and no other.
const IF_MATCH: HeaderName = http::header::IF_MATCH;

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}
