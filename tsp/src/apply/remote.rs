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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{Syntax, exported, normal, read_files, write};
    use crate::failure::Kind;
    use crate::wiring::testing::TestServer;

    /// With every form that the server writes otherwise than it was given, or fills in.
    const FILE: &str = "
app: trade
name: least
kind: delayed
target: {type: http, url: http://127.0.0.1:9999/a}
---
app: trade
name: spelled
kind: cron
description: all of it
owner: trade
labels: {team: trade, y: n}
target: {type: http, method: PUT, url: 'http://127.0.0.1:9999/b', headers: {X-A: b}}
schedule: {type: cron, expr: '0 0 2 * * ?', timezone: Asia/Shanghai, misfire: {policy: fire_all, max: 3}, end_at: 2099-01-01T00:00:00+08:00}
retry: {max_attempts: 3, backoff: {type: list, delays: [90s, 60m]}, jitter: 0, non_retryable_status: [410]}
timeout: {total: 1500ms}
async: {enabled: true}
payload: {b: [1, null, 1.5]}
expire_after: 120m
retention: 24h
---
app: trade
name: ticking
kind: cron
target: {type: http, url: http://127.0.0.1:9999/c}
schedule: {type: every, interval: 90s, overlap: queue_one}
retry: {backoff: {type: exponential, initial: 10m}}
";

    async fn plan(client: &Client, text: &str, prune: bool) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("configs.yaml");
        std::fs::write(&path, text).unwrap();
        let documents = read_files(&[path]).unwrap();
        let remote = Remote::of(client, &["trade".to_owned()].into()).await.unwrap();
        Plan::make(documents, &remote.apps, &remote.configs, prune, normal)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn applied_twice_nothing_changes_and_an_export_is_the_same() {
        let server = TestServer::start().await;
        let client = server.client();
        let first = plan(&client, FILE, true).await;
        carry_out(&client, &first).await.unwrap();
        let again = plan(&client, FILE, true).await;
        assert!(again.is_empty(), "{}", again.render());

        let remote = Remote::all(&client).await.unwrap();
        let documents: Vec<_> =
            remote.configs.iter().map(|((app, _), current)| exported(app, &current.body)).collect();
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let text = write(&documents, syntax).unwrap();
            let exported = plan(&client, &text, true).await;
            assert!(exported.is_empty() && exported.steps.len() == 3, "{}\n{text}", exported.render());
        }
        server.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_plan_changes_and_deletes_what_it_names_and_holds_for_one_version() {
        let server = TestServer::start().await;
        let client = server.client();
        carry_out(&client, &plan(&client, FILE, false).await).await.unwrap();
        let edited =
            FILE.replace("max_attempts: 3", "max_attempts: 4").replace("name: ticking", "name: other");
        let change = plan(&client, &edited, true).await;
        assert_eq!(
            change.render(),
            "unchanged    trade/least\n\
             update       trade/spelled\n\
             \x20            retry.max_attempts: 3 -> 4\n\
             create       trade/other\n\
             delete       trade/ticking\n\
             plan: 1 create, 1 update, 1 unchanged, 1 delete\n"
        );
        carry_out(&client, &change).await.unwrap();
        assert!(plan(&client, &edited, true).await.is_empty());
        // The same plan again meets a newer version.
        let refused = carry_out(&client, &change).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        assert!(refused.to_string().contains("update trade/spelled"), "{refused}");
        server.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_server_refuses_is_told_with_its_fields() {
        let server = TestServer::start().await;
        let client = server.client();
        let text = "app: trade\nname: bad\nkind: delayed\ntarget: {type: http, url: 'ftp://x'}\nretries: 3";
        let refused = carry_out(&client, &plan(&client, text, false).await).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        let said = refused.to_string();
        assert!(
            said.contains("create trade/bad") && said.contains("retries") && said.contains("target.url"),
            "{said}"
        );
        server.stop().await;
    }
}
