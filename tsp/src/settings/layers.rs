//! Settings as layers of flat keys. The embedded default file is also the list of what exists and of
//! which type it is, so that a key cannot be known in one place and unknown in another.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::unknown;
use crate::environment::Environment;

/// The defaults, and the documentation of every key.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// Keys whose value is never shown, and may be read from a file of its own.
const SECRETS: [&str; 4] = ["auth.bootstrap_key", "store.secret_key", "store.meta.url", "store.sources"];
const FILE_SUFFIX: &str = "_file";
const ENV_PREFIX: &str = "TSP__";

/// Where a value comes from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Environment(name) => write!(f, "the environment variable `{name}`"),
            Self::Flag(name) => write!(f, "the flag `{name}`"),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// All keys with the value that holds.
#[derive(Debug)]
pub(crate) struct Layers {
    defaults: BTreeMap<String, Value>,
    entries: BTreeMap<String, Entry>,
    pub(super) problems: Vec<String>,
}

impl Layers {
    pub(crate) fn defaults() -> Self {
        let table: Table = DEFAULT_TOML.parse().expect("a test parses the embedded file");
        let mut defaults = BTreeMap::new();
        flatten("", table, &mut defaults);
        let entries = defaults
            .iter()
            .map(|(key, value)| (key.clone(), Entry { value: value.clone(), origin: Origin::Default }));
        Self { entries: entries.collect(), defaults, problems: Vec::new() }
    }

    /// A settings file's text.
    pub(crate) fn add_file(&mut self, path: &Path, text: &str) {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                self.problems.push(format!(
                    "`{}` is no TOML: {}",
                    path.display(),
                    error.to_string().trim_end()
                ));
                return;
            }
        };
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat);
        let origin = Origin::File(path.to_owned());
        for (key, value) in flat {
            self.put(&key, GivenValue::Toml(value), &origin);
        }
    }

    pub(crate) fn add_environment(&mut self, environment: &Environment) {
        for (name, text) in environment.iter() {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                let key = path.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
                self.put(&key, GivenValue::Text(text), &Origin::Environment(name.to_owned()));
            }
        }
    }

    /// A flag of the command line that stands for a key.
    pub(crate) fn add_flag(&mut self, flag: &'static str, key: &str, text: &str) {
        self.put(key, GivenValue::Text(text), &Origin::Flag(flag));
    }

    pub(crate) fn get(&self, key: &str) -> &Entry {
        self.entries.get(key).expect("a test reads every key of the embedded file and no other")
    }

    /// Whether a key has another value than by default.
    #[cfg(not(feature = "cluster"))]
    pub(super) fn changes(&self, key: &str) -> bool {
        self.defaults.get(key) != Some(&self.get(key).value)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    fn put(&mut self, key: &str, given: GivenValue<'_>, origin: &Origin) {
        let (key, given_by_file) = match key.strip_suffix(FILE_SUFFIX) {
            Some(secret) if SECRETS.contains(&secret) => (secret, true),
            _ => (key, false),
        };
        let in_section = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        if given.is_empty_section() && self.defaults.keys().any(in_section) {
            return;
        }
        let Some(default) = self.defaults.get(key) else {
            self.problems.push(unknown::explain(key, origin, self.defaults.keys().map(String::as_str)));
            return;
        };
        if given_by_file && self.get(key).origin == *origin {
            self.problems.push(format!("`{key}` and `{key}{FILE_SUFFIX}` both stand in {origin}: keep one"));
            return;
        }
        let value = if given_by_file { given.secret(default) } else { given.typed(default) };
        match value {
            Ok(value) => {
                self.entries.insert(key.to_owned(), Entry { value, origin: origin.clone() });
            }
            Err(why) => {
                let suffix = if given_by_file { FILE_SUFFIX } else { "" };
                self.problems.push(format!("`{key}{suffix}` in {origin} {why}"));
            }
        }
    }
}

pub(crate) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// The environment variable that stands for a key.
pub(crate) fn environment_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// A value as it was given: typed by TOML, or a text that takes the type of the default.
enum GivenValue<'a> {
    Toml(Value),
    Text(&'a str),
}

impl GivenValue<'_> {
    fn is_empty_section(&self) -> bool {
        matches!(self, Self::Toml(Value::Table(table)) if table.is_empty())
    }

    /// The value that the file of this path holds.
    fn secret(self, default: &Value) -> Result<Value, String> {
        match self.typed(&Value::String(String::new()))? {
            Value::String(path) => GivenValue::Text(&read_secret(&path)?).typed(default),
            other => Ok(other),
        }
    }

    fn typed(self, default: &Value) -> Result<Value, String> {
        let text = match self {
            Self::Toml(value) if value.same_type(default) => return Ok(value),
            Self::Toml(value) => {
                let wanted = type_name(default);
                return Err(format!("must be {wanted}, is {}; for example `{default}`", type_name(&value)));
            }
            Self::Text(text) => text,
        };
        let wrong = || format!("must be {}, is `{text}`; for example `{default}`", type_name(default));
        match default {
            Value::Integer(_) => text.trim().parse().map(Value::Integer).map_err(|_| wrong()),
            Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| wrong()),
            Value::Array(_) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
            }
            _ => Ok(Value::String(text.to_owned())),
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "`true` or `false`",
        Value::Array(_) => "a list",
        Value::Float(_) => "a number with a fraction",
        Value::Datetime(_) => "a point in time",
        Value::Table(_) => "a section",
    }
}

fn read_secret(path: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot be read from `{path}`: {error}"))?;
    // Editors and `echo` end a file with a line feed that is not part of the secret.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn flatten(prefix: &str, table: Table, flat: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            // An empty section has no key that could be unknown, so it stands for itself.
            Value::Table(inner) if inner.is_empty() => {
                flat.insert(key, Value::Table(inner));
            }
            Value::Table(inner) => flatten(&key, inner, flat),
            value => {
                flat.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let mut layers = Layers::defaults();
        layers.add_file(Path::new("tsp.toml"), text);
        layers.problems.join("\n")
    }

    fn value(layers: &Layers, key: &str) -> String {
        layers.get(key).value.to_string()
    }

    #[test]
    fn a_later_layer_covers_an_earlier_one() {
        let mut layers = Layers::defaults();
        assert_eq!(layers.get("web.listen").origin, Origin::Default);
        layers.add_file(Path::new("a.toml"), "[web]\nlisten = \"1.1.1.1:1\"\n[worker]\nconcurrency = 7");
        layers.add_environment(&Environment::of(&[
            ("TSP__WEB__LISTEN", "2.2.2.2:2"),
            ("TSP__WORKER__HTTP__ALLOW_NETWORKS", "10.0.0.0/8, 127.0.0.0/8"),
            ("TSP__FETCHER__GROUPS", ""),
            ("TSP__WEB__METRICS_OPEN", "true"),
            ("TSP_SERVER", "not a setting"),
        ]));
        layers.add_flag("--roles", "node.roles", "web,worker");
        assert_eq!(layers.problems, [""; 0]);
        assert_eq!(value(&layers, "web.listen"), "\"2.2.2.2:2\"");
        assert_eq!(
            layers.get("web.listen").origin.to_string(),
            "the environment variable `TSP__WEB__LISTEN`"
        );
        assert_eq!(value(&layers, "worker.concurrency"), "7");
        assert_eq!(value(&layers, "worker.http.allow_networks"), "[\"10.0.0.0/8\", \"127.0.0.0/8\"]");
        assert_eq!(value(&layers, "fetcher.groups"), "[]");
        assert_eq!(value(&layers, "web.metrics_open"), "true");
        assert_eq!(value(&layers, "node.roles"), "[\"web\", \"worker\"]");
    }

    #[test]
    fn wrong_types_name_the_key_and_the_place() {
        assert_eq!(
            problems("[worker]\nconcurrency = \"many\""),
            "`worker.concurrency` in `tsp.toml` must be a whole number, is a text; for example `1024`"
        );
        assert!(problems("web = 3").contains("`web`"), "{}", problems("web = 3"));
        assert!(problems("[wob]").contains("unknown setting `wob`"), "{}", problems("[wob]"));
        assert_eq!(problems("[web]\n[worker.http]"), "");
        assert!(problems("[web").contains("`tsp.toml` is no TOML"));
        let mut layers = Layers::defaults();
        layers.add_environment(&Environment::of(&[("TSP__STORE__SHARDS", "x")]));
        assert!(layers.problems[0].contains("`TSP__STORE__SHARDS`"), "{:?}", layers.problems);
    }

    #[test]
    fn secrets_may_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let mut layers = Layers::defaults();
        let given = path.display().to_string();
        layers.add_environment(&Environment::of(&[("TSP__AUTH__BOOTSTRAP_KEY_FILE", &given)]));
        assert_eq!(value(&layers, "auth.bootstrap_key"), "\"s3cret\"");
        let missing = problems("[auth]\nbootstrap_key_file = \"/nowhere/key\"");
        assert!(
            missing.contains("`auth.bootstrap_key_file`") && missing.contains("/nowhere/key"),
            "{missing}"
        );
        assert!(problems("[auth]\nbootstrap_key = \"a\"\nbootstrap_key_file = \"b\"").contains("keep one"));
        assert!(problems("[web]\nlisten_file = \"b\"").contains("unknown"));
    }
}
