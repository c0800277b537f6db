//! The server's side of `tsp config`: what is there, and making it so.

use std::collections::BTreeSet;

use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, json};
use tsp_api::config::Notice;
use tsp_api::json;
use tsp_client::{Answer, Client, Error, Request};

use super::payload::Payload;
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
                Ok(configs) => remote.add(app, &configs)?,
                Err(error) if error.status().is_some_and(|status| status.as_u16() == 404) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(remote)
    }

    /// Of all apps that the key may read.
    pub(crate) async fn all(client: &Client) -> Result<Self> {
        let mut names = BTreeSet::new();
        for app in list(client, "/apps").await? {
            let app: Named = serde_json::from_str(app.get()).map_err(|error| unreadable(&error))?;
            names.insert(app.name);
        }
        Self::of(client, &names).await
    }

    fn add(&mut self, app: &str, configs: &[Box<RawValue>]) -> Result {
        self.apps.insert(app.to_owned());
        for config in configs {
            let (name, current) = current(config).map_err(|error| unreadable(&error))?;
            self.configs.insert((app.to_owned(), name), current);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The payload stays text; all else is known to fit a tree.
fn current(config: &RawValue) -> serde_json::Result<(String, Current)> {
    #[derive(Deserialize)]
    struct Config {
        name: String,
        version: i64,
        #[serde(default)]
        payload: Option<Payload>,
    }
    let Config { name, version, payload } = serde_json::from_str(config.get())?;
    let mut body = Map::new();
    for member in json::members(config.get()).ok().flatten().unwrap_or_default() {
        let field = member.name.shown();
        if field != "payload" {
            body.insert(field, serde_json::from_str(member.value)?);
        }
    }
    Ok((name, Current { version, body, payload }))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("the server sent what cannot be read: {error}"))
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Every item of a list, page by page.
async fn list(client: &Client, path: &str) -> Result<Vec<Box<RawValue>>, Error> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut request = client.request(Method::GET, path).query("limit", PAGE);
        if let Some(cursor) = &cursor {
            request = request.query("cursor", cursor);
        }
        let page: Page = request.send().await?.json()?;
        items.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

/// Asks the server whether it would take all of the plan; nothing is changed. What it would refuse is
/// reported at once, each with its source. Returns what it would do beside what it is asked for.
pub(crate) async fn check(client: &Client, plan: &Plan) -> Result<Vec<String>> {
    let (mut refused, mut notices) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        let Some(request) = request(client, step) else { continue };
        let request = request.query("dry_run", "true");
        let request = if plan.makes_app_of(step) { request.query("assume_app", "true") } else { request };
        match request.send().await {
            Ok(answer) => notices.extend(notice(&answer).map(|notice| format!("{}: {notice}", step.title()))),
            Err(error) if is_about_the_document(&error) => {
                let place = step.source().map(|source| format!(" in {source}")).unwrap_or_default();
                refused.push(format!("{}{place}: {error}", step.title()));
            }
            Err(error) => return Err(Failure::from(error).within(&step.title())),
        }
    }
    match refused.as_slice() {
        [] => Ok(notices),
        [only] => Err(Failure::refused(only)),
        all => {
            Err(Failure::refused(format!("the server refuses {} changes\n  {}", all.len(), all.join("\n  "))))
        }
    }
    .map_err(|failure: Failure| failure.advise("nothing was changed; mend this and apply again"))
}

/// What the server says of a change in its answer.
fn notice(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Noticed {
        notice: Option<Notice>,
    }
    let Notice { message, names, .. } = answer.json::<Noticed>().ok()?.notice?;
    Some(format!("{message} ({})", names.join(", ")))
}

/// And not about the key, the connection or the server.
fn is_about_the_document(error: &Error) -> bool {
    error.status().is_some_and(|status| matches!(status.as_u16(), 400 | 404 | 409 | 412 | 413))
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
        Step::CreateApp { app } => Some(client.request(Method::POST, "/apps").json(&json!({ "name": app }))),
        _ => request(client, step),
    };
    match request {
        Some(request) => request.send().await.map(|_| ()),
        None => Ok(()),
    }
}

/// The call that changes a config.
fn request(client: &Client, step: &Step) -> Option<Request> {
    Some(match step {
        Step::Unchanged { .. } | Step::CreateApp { .. } => return None,
        Step::Create { document } => {
            client.request(Method::POST, &format!("/apps/{}/configs", document.app)).json(&document.sent())
        }
        Step::Update { document, version, .. } => client
            .request(Method::PUT, &format!("/apps/{}/configs/{}", document.app, document.name))
            .header(IF_MATCH, &etag(*version))
            .json(&document.sent()),
        Step::Delete { app, name, version } => client
            .request(Method::DELETE, &format!("/apps/{app}/configs/{name}"))
            .header(IF_MATCH, &etag(*version)),
    })
}

/// The plan holds for the version it was made from and no other.
const IF_MATCH: HeaderName = http::header::IF_MATCH;

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

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
            remote.configs.iter().map(|((app, _), current)| exported(app, current)).collect();
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
    async fn what_the_server_would_refuse_is_told_before_anything_is_changed() {
        let server = TestServer::start().await;
        let client = server.client();
        let text = "app: trade\nname: a\nkind: delayed\ntarget: {type: http, url: 'http://127.0.0.1:9999/'}\n---\n\
            app: trade\nname: bad\nkind: delayed\ntarget: {type: http, url: 'ftp://x'}\nretries: 3\n---\n\
            app: trade\nname: night\nkind: cron\ntarget: {type: http, url: 'http://127.0.0.1:9999/'}\n\
            schedule: {type: cron, expr: '61 * * * * ?', timezone: UTC}\n";
        let wrong = plan(&client, text, false).await;
        let refused = check(&client, &wrong).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused);
        let said = refused.to_string();
        for part in [
            "2 changes",
            "create trade/bad in",
            "(document 2)",
            "`retries` does not exist",
            "`target.url`",
            "create trade/night in",
            "(document 3)",
            "`schedule.expr`",
            "nothing was changed",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.matches("retries").count(), 1, "{said}");
        assert!(Remote::of(&client, &["trade".to_owned()].into()).await.unwrap().apps.is_empty());
        // Each change by itself is reported alike.
        let refused = carry_out(&client, &wrong).await.unwrap_err().to_string();
        assert!(refused.contains("create trade/bad: "), "{refused}");

        let good = plan(&client, FILE, false).await;
        check(&client, &good).await.unwrap();
        let names = |remote: Remote| remote.configs.into_keys().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(Remote::all(&client).await.unwrap()), ["a"]);
        server.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_change_does_beside_is_told() {
        let server = TestServer::start().await;
        let client = server.client();
        let text = "app: trade\nname: a\nkind: delayed\n\
            target: {type: http, url: 'http://127.0.0.1:9999/', secret_headers: {X-A: s}}\n";
        carry_out(&client, &plan(&client, text, false).await).await.unwrap();
        let moved = text.replace("9999", "9998").replace(", secret_headers: {X-A: s}", "");
        let notices = check(&client, &plan(&client, &moved, false).await).await.unwrap();
        assert!(notices.len() == 1 && notices[0].starts_with("update trade/a: "), "{notices:?}");
        assert!(notices[0].contains("secret headers") && notices[0].ends_with("(X-A)"), "{notices:?}");
        server.stop().await;
    }

    /// Payloads of all kinds, the same in each run.
    fn some_payloads(count: usize) -> Vec<String> {
        let text = "\"(\\PC|\\\\u[0-9a-f]{4}|\\\\n){0,6}\""
            .prop_filter("is json", |text| serde_json::from_str::<&RawValue>(text).is_ok());
        let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?";
        let list = (text.clone(), number, "[ \t\n]{0,2}", text)
            .prop_map(|(a, b, blank, c)| format!("[{a},{blank}{b},{{{c}:{blank}[{b}]}}]"));
        let mut attempt_store = TestRunner::deterministic();
        (0..count).map(|_| list.new_tree(&mut attempt_store).unwrap().current()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_no_parser_holds_is_exported_and_applied_to_the_byte() {
        let server = TestServer::start().await;
        let client = server.client();
        let deep = "[".repeat(130) + &"]".repeat(130);
        let known = [
            "1e400",
            "\"\\ud800\"",
            &deep,
            "130775545883395173123456789",
            "{ \"n\" :\t1.10 }",
            "{\"a\":null}",
        ];
        let payloads: Vec<String> = known.into_iter().map(str::to_owned).chain(some_payloads(40)).collect();
        let configs: Vec<String> = payloads
            .iter()
            .enumerate()
            .map(|(at, payload)| {
                format!(
                    "{{\"app\":\"trade\",\"name\":\"c{at:02}\",\"kind\":\"delayed\",\"payload\":{payload},\
                     \"target\":{{\"type\":\"http\",\"url\":\"http://127.0.0.1:9999/\"}}}}"
                )
            })
            .collect();
        let file = format!("[{}]", configs.join(","));
        let first = plan(&client, &file, true).await;
        check(&client, &first).await.unwrap();
        carry_out(&client, &first).await.unwrap();
        let texts = async || {
            let remote = Remote::all(&client).await.unwrap();
            let payload =
                |current: &Current| current.payload.as_ref().map(|payload| payload.text().to_owned());
            remote.configs.values().map(payload).collect::<Vec<_>>()
        };
        let wanted: Vec<_> = payloads.iter().cloned().map(Some).collect();
        assert_eq!(texts().await, wanted);
        for (at, payload) in payloads.iter().enumerate() {
            let config = client.get_config("trade", &format!("c{at:02}")).await.unwrap();
            assert_eq!(config.payload.as_deref().map(RawValue::get), Some(payload.as_str()));
            client.put_config("trade", &config).await.unwrap();
        }
        assert_eq!(texts().await, wanted);
        let remote = Remote::all(&client).await.unwrap();
        let documents: Vec<_> =
            remote.configs.iter().map(|((app, _), current)| exported(app, current)).collect();
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let text = write(&documents, syntax).unwrap();
            let again = plan(&client, &text, true).await;
            assert!(again.is_empty(), "{}\n{text}", again.render());
            // And so they are sent.
            let bare = text.replace("http://127.0.0.1:9999/", "http://127.0.0.1:9998/");
            let moved = plan(&client, &bare, true).await;
            assert!(!moved.is_empty());
            carry_out(&client, &moved).await.unwrap();
            assert_eq!(texts().await, wanted);
            carry_out(&client, &plan(&client, &text, true).await).await.unwrap();
        }
        server.stop().await;
    }
}
