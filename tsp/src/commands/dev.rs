//! `tsp dev`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use tsp_client::Client;

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::settings::{Flag, Settings, SettingsFile};
use crate::wiring::{self, AsyncPrepare, ServerClock};

const APP: &str = "demo";
const CONFIG: &str = "hello";

/// Run a server for development: no key needed, loopback only, a clock that can be moved
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tsp dev\n  tsp dev --data ./dev-data --listen 127.0.0.1:9000\n  \
    tsp clock advance 3d        # in another shell\n\n\
    It has an app `demo` with a config `hello` that calls the server's own receiver `/dev/inbox`.")]
pub(super) struct Args {
    #[command(flatten)]
    file: SettingsFile,
    /// Keep the data in this folder; without it they are gone at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port in place of `web.listen`; loopback only
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        // Removed when it is dropped, after the server has ended.
        let throw_away = if self.data.is_some() { None } else { Some(throw_away()?) };
        let folder = self.data.as_deref().or(throw_away.as_ref().map(tempfile::TempDir::path));
        let url = store_url(folder.unwrap_or(Path::new(".")))?;
        let mut flags: Vec<Flag<'_>> = vec![
            ("--data", "store.url", &url),
            ("dev", "store.synchronous", "normal"),
            ("dev", "worker.http.allow_networks", "127.0.0.0/8,::1/128"),
            ("dev", "web.metrics_open", "true"),
        ];
        flags.extend(self.listen.as_deref().map(|listen| ("--listen", "web.listen", listen)));
        let settings = Settings::load(self.file.config.as_deref(), environment, &flags)?;
        if !settings.web.listen.ip().is_loopback() {
            let listen = settings.web.listen;
            return Err(Failure::usage(format!(
                "`tsp dev` needs no key, so it may not listen on `{listen}`"
            ))
            .advise("listen on 127.0.0.1, or use `tsp serve`"));
        }
        wiring::serve(&settings, ServerClock::virtual_(), Some(Box::new(Demo)))
    }
}

fn throw_away() -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("tsp-dev-").tempdir();
    made.map_err(|error| {
        Failure::failed(format!("cannot make a folder for the data: {error}"))
            .advise("give one with `--data DIR`")
    })
}

fn store_url(folder: &Path) -> Result<String> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::failed(format!("cannot make the folder `{}`: {error}", folder.display()))
    })?;
    Ok(format!("sqlite:{}", folder.join("tsp.db").display()))
}

/// Puts the example where a newcomer finds it.
struct Demo;

#[async_trait]
impl AsyncPrepare for Demo {
    async fn prepare(self: Box<Self>, address: SocketAddr) -> Result {
        let client = Client::builder(format!("http://{address}")).build()?;
        let app = json!({ "name": APP, "description": "an example", "owner": "" });
        match client.request_json(Method::POST, "/apps", Some(&app)).await {
            Err(error) if error.status().is_some_and(|status| status.as_u16() == 409) => {}
            answer => {
                answer?;
            }
        }
        // Put, not made: the port may be another than last time.
        let config = json!({
            "name": CONFIG, "kind": "delayed", "description": "calls this server's own receiver",
            "target": { "type": "http", "url": format!("http://{address}/dev/inbox"), "method": "POST" },
        });
        client.request_json(Method::PUT, &format!("/apps/{APP}/configs/{CONFIG}"), Some(&config)).await?;
        eprintln!("{}", welcome(address));
        Ok(())
    }
}

fn welcome(address: SocketAddr) -> String {
    format!(
        "\nTry it:\n\n  \
         curl -s http://{address}/api/v1/apps/{APP}/tasks -H 'Content-Type: application/json' \\\n    \
         -d '{{\"config\": \"{CONFIG}\", \"key\": \"order-42\", \"delay\": \"30m\", \"payload\": {{\"order\": 42}}}}'\n  \
         tsp clock advance 1h --server http://{address}\n  \
         curl -s http://{address}/dev/inbox\n\n\
         Reference of the API: http://{address}/docs\n"
    )
}
