//! `tsp key`

use clap::Subcommand;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tsp_api::time::parse_time;
use tsp_core::{Entropy, Timestamp};
use tsp_store::Catalog;
use tsp_store::catalog::{ApiKey, NewKey, Scope};
use tsp_store::tasks::Actor;

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::settings::SettingsFile;
use crate::wiring::offline::on_catalog;
use crate::wiring::{OsEntropy, machine_now, store_failure};

/// API.md section 12: random, far too long to guess.
const KEY_BYTES: usize = 32;
const KEY_PREFIX: &str = "tsp_";
/// Kept in the clear, to tell keys apart.
const PREFIX_CHARS: usize = 10;
const NAME_CHARS_MAX: usize = tsp_api::api_key::KEY_NAME_CHARS_MAX;

/// Make API keys, straight on the database
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
}

/// Make a key and print it once; works beside a running server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tsp key create --global --name ops --scope admin\n  \
    tsp key create --app trade --name checkout --scope submit --config production.toml\n\n\
    manage includes read and submit; admin includes manage. Only the hash of the key is kept.")]
#[command(group = clap::ArgGroup::new("owner").required(true).args(["global", "app"]))]
struct Create {
    /// For calls about all apps
    #[arg(long)]
    global: bool,
    /// For one app
    #[arg(long)]
    app: Option<String>,
    /// What it is for
    #[arg(long)]
    name: String,
    /// read, submit, manage, admin or worker; several with commas
    #[arg(long, alias = "scopes", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope)]
    scope: Vec<Scope>,
    /// When it stops working, with an offset: 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<Timestamp>,
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let Command::Create(create) = self.command;
        let name_chars = create.name.trim().chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&name_chars) {
            return Err(Failure::usage(format!("`--name` must have 1 to {NAME_CHARS_MAX} characters")));
        }
        let settings = create.file.load(environment)?;
        let now = machine_now();
        if create.expires_at.is_some_and(|at| at <= now) {
            return Err(Failure::usage("`--expires-at` has passed already"));
        }
        let key = mint(&OsEntropy);
        let made = on_catalog(&settings, now, async |store| create.save(store, &key, now).await)?;
        let shown = json!({
            "id": made.id.to_string(), "key": key, "name": made.name, "prefix": made.prefix,
            "scopes": made.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        });
        eprintln!("this key is shown once; keep it in a safe place");
        create.output.print(&shown, |_| format!("{key}\n"))
    }
}

impl Create {
    async fn save(&self, store: &dyn Catalog, key: &str, now: Timestamp) -> Result<ApiKey> {
        let app = match &self.app {
            None => None,
            Some(name) => Some(store.config_cache().app(name).map(|app| app.id).ok_or_else(|| {
                Failure::not_found(format!("there is no app `{name}`"))
                    .advise("make it first: POST /api/v1/apps, or `tsp config apply`")
            })?),
        };
        let new = NewKey {
            app,
            name: self.name.trim().to_owned(),
            scopes: self.scope.clone(),
            hash: Sha256::digest(key.as_bytes()).into(),
            prefix: key.chars().take(PREFIX_CHARS).collect(),
            rate_limit: None,
            expires_at: self.expires_at,
        };
        let made = store.create_key(new, &Actor("cli".to_owned()), now).await;
        made.map_err(|error| store_failure(&error))
    }
}

fn mint(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; KEY_BYTES];
    entropy.fill(&mut bytes);
    format!("{KEY_PREFIX}{}", hex::encode(bytes))
}

fn scope(text: &str) -> Result<Scope, String> {
    let words = || Scope::ALL.map(Scope::as_str).join(", ");
    Scope::parse(text).ok_or_else(|| format!("must be one of {}", words()))
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_never_the_same() {
        let (a, b) = (mint(&OsEntropy), mint(&OsEntropy));
        assert_ne!(a, b);
        assert!(a.starts_with(KEY_PREFIX) && a.len() == KEY_PREFIX.len() + 2 * KEY_BYTES, "{a}");
    }
}
