//! How client commands reach a server: flags, then the environment, then the user's own file.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tsp_client::{Client, Error};

use crate::environment::Environment;
use crate::failure::{Failure, Kind, Result};
use crate::output::Format;

const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

/// Flags of every command that calls a server.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// Where the server listens [environment: TSP_SERVER] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The API key [environment: TSP_KEY]; both also stand in ~/.config/tsp/config.toml
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How answers are printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: Format,
    #[arg(skip)]
    timeout: Option<Duration>,
}

/// `~/.config/tsp/config.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserFile {
    server: Option<String>,
    key: Option<String>,
}

impl Connection {
    /// For calls whose answer takes its time.
    pub(crate) fn patient(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn client(&self, environment: &Environment) -> Result<Client> {
        let file = user_file(environment)?;
        let server = first(self.server.as_deref(), environment.get("TSP_SERVER"), file.server.as_deref());
        let key = first(self.key.as_deref(), environment.get("TSP_KEY"), file.key.as_deref());
        let mut builder = Client::builder(server.unwrap_or(SERVER_DEFAULT));
        if let Some(key) = key {
            builder = builder.key(key);
        }
        if let Some(timeout) = self.timeout {
            builder = builder.timeout(timeout);
        }
        builder.build().map_err(|error| Failure::usage(error.to_string()))
    }

    /// Runs one call to its end on this thread.
    pub(crate) fn call<T>(
        &self,
        environment: &Environment,
        call: impl AsyncFnOnce(Client) -> Result<T>,
    ) -> Result<T> {
        let client = self.client(environment)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        runtime.block_on(call(client))
    }
}

fn first<'a>(flag: Option<&'a str>, variable: Option<&'a str>, file: Option<&'a str>) -> Option<&'a str> {
    flag.or(variable).or(file)
}

fn user_file(environment: &Environment) -> Result<UserFile> {
    let Some(path) = environment.config_home().map(|home| home.join("tsp").join("config.toml")) else {
        return Ok(UserFile::default());
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_user_file(&path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(UserFile::default()),
        Err(error) => Err(unusable(&path, &error.to_string())),
    }
}

fn parse_user_file(path: &Path, text: &str) -> Result<UserFile> {
    toml::from_str(text).map_err(|error| unusable(path, error.message()))
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("`{}` cannot be used: {why}", path.display()))
        .advise("it may hold `server = \"http://…\"` and `key = \"…\"`")
}

/// A failed call as the command's own failure: the exit code by what the server said.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match (&error, error.status().map(|status| status.as_u16())) {
            (Error::Usage(_), _) => Kind::Usage,
            (_, Some(404)) => Kind::NotFound,
            (_, Some(400..=499)) => Kind::Refused,
            _ => Kind::Failed,
        };
        let failure = Self::new(kind, error.to_string());
        match (&error, error.status().map(|status| status.as_u16())) {
            (Error::NoAnswer(_), _) => {
                failure.advise("is the server running there? `--server` or TSP_SERVER says where it listens")
            }
            (Error::Unreadable { .. }, _) => failure.advise("is that address really that of a TSP server?"),
            (_, Some(401)) => {
                failure.advise("give a key with `--key` or TSP_KEY; `tsp key create` makes one")
            }
            (_, Some(403)) => {
                failure.advise("the key may not do this; `tsp key create --scope …` makes another")
            }
            (_, Some(429 | 503)) => failure.advise("try again in a moment"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_file_is_strict() {
        let parse = |text| parse_user_file(Path::new("config.toml"), text);
        let file = parse("server = \"http://a\"\nkey = \"b\"").unwrap();
        assert_eq!((file.server.as_deref(), file.key.as_deref()), (Some("http://a"), Some("b")));
        let said = parse("sever = \"http://a\"").unwrap_err();
        assert_eq!(said.kind, Kind::Usage);
        assert!(said.to_string().contains("config.toml") && said.to_string().contains("sever"), "{said}");
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tsp")).unwrap();
        std::fs::write(dir.path().join("tsp/config.toml"), "server = \"http://file:1\"").unwrap();
        let home = dir.path().display().to_string();
        let shown = |flag: Option<&str>, shard_groups: &[(&str, &str)]| {
            let connection = Connection { server: flag.map(str::to_owned), ..Connection::default() };
            let mut all = vec![("XDG_CONFIG_HOME", home.as_str())];
            all.extend(shard_groups);
            format!("{:?}", connection.client(&Environment::of(&all)).unwrap())
        };
        assert!(shown(None, &[]).contains("http://file:1"));
        assert!(shown(None, &[("TSP_SERVER", "http://env:2")]).contains("http://env:2"));
        assert!(shown(Some("http://flag:3"), &[("TSP_SERVER", "http://env:2")]).contains("http://flag:3"));
    }
}
