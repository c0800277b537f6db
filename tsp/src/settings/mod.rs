//! Settings: the embedded defaults, a file, the environment, flags; each covers the one before it.

mod auth;
mod cluster;
mod layers;
mod process;
mod queue;
mod reader;
pub(crate) mod reference;
mod show;
mod store;
mod unknown;
mod web;
mod worker;

use std::path::{Path, PathBuf};

pub(crate) use auth::AuthSettings;
pub(crate) use layers::Layers;
pub(crate) use process::{FetcherSettings, LogFormat, LogSettings, NodeSettings, RuntimeSettings};
#[cfg(feature = "cluster")]
pub(crate) use queue::NsqSettings;
pub(crate) use queue::QueueSettings;
use reader::Reader;
pub(crate) use show::show;
pub(crate) use store::{SecretKey, StoreLocation, StoreSettings};
pub(crate) use web::WebSettings;
pub(crate) use worker::WorkerSettings;

use crate::environment::Environment;
use crate::failure::{Failure, Result};

/// All settings, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) web: WebSettings,
    pub(crate) store: StoreSettings,
    pub(crate) queue: QueueSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) worker: WorkerSettings,
    pub(crate) fetcher: FetcherSettings,
    pub(crate) node: NodeSettings,
    pub(crate) log: LogSettings,
    pub(crate) runtime: RuntimeSettings,
}

impl Settings {
    /// Reads every key; all that is wrong is reported at once.
    pub(crate) fn from_layers(layers: &Layers) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(layers);
        let settings = Self::read(&mut reader);
        match settings {
            Some(settings) if reader.problems.is_empty() => Ok(settings),
            _ => Err(reader.problems),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // No `?` before all sections were read: each notes its own problems.
        let web = WebSettings::read(reader);
        let store = StoreSettings::read(reader);
        let auth = AuthSettings::read(reader);
        let worker = WorkerSettings::read(reader);
        let queue = QueueSettings::read(reader);
        let fetcher = FetcherSettings::read(reader);
        let node = NodeSettings::read(reader);
        if let Some(store) = &store {
            let cluster = matches!(store.location, StoreLocation::Cluster(_));
            process::check_shape(reader, cluster, &queue, &fetcher, &node);
        }
        let log = LogSettings::read(reader);
        let runtime = RuntimeSettings::read(reader);
        Some(Self { web: web?, store: store?, queue, auth, worker, fetcher, node, log: log?, runtime })
    }

    /// What a command needs before anything else.
    pub(crate) fn load(file: Option<&Path>, environment: &Environment, flags: &[Flag<'_>]) -> Result<Self> {
        let layers = read_layers(file, environment, flags)?;
        #[cfg(not(feature = "cluster"))]
        if let Some(key) =
            ["store.meta.url", "store.sources", "queue.url"].iter().find(|key| layers.changes(key))
        {
            return Err(Failure::no_cluster().within(&format!("`{key}`")));
        }
        Self::from_layers(&layers).map_err(|problems| {
            Failure::usage(problems.join("\nerror: "))
                .advise("`tsp config-reference` lists every setting; `tsp config show` what holds here")
        })
    }
}

/// A flag of the command line, the key it stands for, and its value as text.
pub(crate) type Flag<'a> = (&'static str, &'static str, &'a str);

/// All layers put together, unchecked.
pub(crate) fn read_layers(
    file: Option<&Path>,
    environment: &Environment,
    flags: &[Flag<'_>],
) -> Result<Layers> {
    let mut layers = Layers::defaults();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("the settings file `{}` cannot be read: {error}", path.display()))
                .advise("give the right path to `--config`, or leave it out: every setting has a default")
        })?;
        layers.add_file(path, &text);
    }
    layers.add_environment(environment);
    for (flag, key, text) in flags {
        layers.add_flag(flag, key, text);
    }
    Ok(layers)
}

/// The flag that all commands on the settings share.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SettingsFile {
    /// A settings file (TOML); see `tsp config-reference`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl SettingsFile {
    pub(crate) fn load(&self, environment: &Environment) -> Result<Settings> {
        Settings::load(self.config.as_deref(), environment, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<Settings, Vec<String>> {
        let mut layers = Layers::defaults();
        layers.add_file(Path::new("tsp.toml"), text);
        Settings::from_layers(&layers)
    }

    fn refused(text: &str) -> String {
        with(text).expect_err(text).join("\n")
    }

    #[test]
    fn the_defaults_are_sound_and_each_key_is_read_once() {
        let layers = Layers::defaults();
        let mut reader = Reader::new(&layers);
        assert!(Settings::read(&mut reader).is_some(), "{:?}", reader.problems);
        let mut read = reader.read.clone();
        read.sort_unstable();
        let keys: Vec<_> = layers.entries().map(|(key, _)| key).collect();
        assert_eq!(read, keys, "config/default.toml and the code know different keys");
    }

    #[test]
    fn every_sample_file_is_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        let mut samples = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let settings = with(&std::fs::read_to_string(&path).unwrap());
                assert!(settings.is_ok(), "{}: {:?}", path.display(), settings.err());
                samples += 1;
            }
        }
        assert!(samples >= 3, "{samples}");
    }

    #[test]
    fn bad_values_are_told_with_key_place_and_what_is_wanted() {
        for (text, key, wanted) in [
            ("[web]\nlisten = \"8080\"", "web.listen", "127.0.0.1:8080"),
            ("[web]\npayload_max = \"2MiB\"", "web.payload_max", "64KiB"),
            ("[store]\nshards = 0", "store.shards", "1 to 512"),
            ("[store]\nurl = \"mysql://db/tsp\"", "store.url", "store.meta.url"),
            ("[store]\nurl = \"sqlite:\"", "store.url", "sqlite:tsp.db"),
            ("[store]\nsynchronous = \"off\"", "store.synchronous", "`full` or `normal`"),
            ("[store]\nsecret_key = \"abc\"", "store.secret_key", "64 hexadecimal digits"),
            ("[queue]\nurl = \"nsq:\"", "queue.nsq.nsqd_tcp", "name a server"),
            ("[auth]\nbootstrap_key = \"short\"", "auth.bootstrap_key", "24 characters"),
            ("[worker]\nconcurrency = 0", "worker.concurrency", "1 to 100000"),
            ("[worker]\nshutdown_grace = \"30 s\"", "worker.shutdown_grace", "`30s`"),
            ("[worker.http]\nallow_networks = [\"home\"]", "worker.http.allow_networks", "10.0.0.0/8"),
            ("[node]\nroles = [\"web\"]", "node.roles", "store.meta.url"),
            ("[node]\nroles = [\"wed\"]", "node.roles", "`web`"),
            ("[node]\nlease = \"0s\"", "node.lease", "1s to 1m"),
            ("[fetcher]\ngroups = [\"trade-*\"]", "fetcher.groups", "store.meta.url"),
            ("[log]\nformat = \"xml\"", "log.format", "`text` or `json`"),
            ("[log]\nfilter = \"info,=\"", "log.filter", "`info`"),
            ("[runtime]\nworkers = 1000", "runtime.workers", "0 to 256"),
        ] {
            let said = refused(text);
            assert!(
                said.contains(key) && said.contains(wanted) && said.contains("tsp.toml"),
                "{text}: {said}"
            );
        }
    }

    const CLUSTER: &str = "[store]\nshards = 2\nsecret_key = \"KEY\"\n\
        sources = [{ shards = \"0-1\", url = \"mysql://u:hunter2@db1/tsp\" }]\n\
        [store.meta]\nurl = \"mysql://u:hunter2@db0/tsp\"\n\
        [queue]\nurl = \"nsq:\"\n[queue.nsq]\nlookupd_http = [\"127.0.0.1:4161\"]\n\
        [node]\nroles = [\"web\", \"worker\"]\n";

    #[test]
    fn a_cluster_needs_its_databases_its_key_and_its_queue() {
        let whole = CLUSTER.replace("KEY", &"ab".repeat(32));
        let settings = with(&whole).expect("a sound cluster");
        assert!(
            matches!(&settings.store.location, StoreLocation::Cluster(cluster) if cluster.sources.len() == 1)
        );
        assert_eq!(settings.node.roles.names(), ["web", "worker"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
        for (missing, key) in [
            ("url = \"nsq:\"", "queue.url"),
            ("sources = [{ shards = \"0-1\", url = \"mysql://u:hunter2@db1/tsp\" }]", "store.sources"),
            ("lookupd_http = [\"127.0.0.1:4161\"]", "queue.nsq.nsqd_tcp"),
            (&format!("secret_key = \"{}\"", "ab".repeat(32)), "store.secret_key"),
        ] {
            let said = refused(&whole.replace(missing, ""));
            assert!(said.contains(key) && !said.contains("hunter2"), "{missing}: {said}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let said = refused("[web]\nlisten = \"x\"\nlisen = \"y\"\n[worker]\nconcurrency = 0");
        assert_eq!(said.lines().count(), 3, "{said}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let said = refused("[auth]\nbootstrap_key = \"hunter2\"\n[store]\nsecret_key = \"hunter3\"");
        assert!(!said.contains("hunter"), "{said}");
        let key = "k".repeat(32);
        let settings = with(&format!("[auth]\nbootstrap_key = \"{key}\"")).unwrap();
        assert!(!format!("{settings:?}").contains(&key));
    }
}
