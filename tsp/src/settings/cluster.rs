//! `store.meta`, `store.sources`: the databases of a cluster.

use std::ops::RangeInclusive;

use secrecy::{ExposeSecret as _, SecretString};
use toml::Value;

use super::reader::Reader;

const META_FORM: &str = "must be `mysql://user:password@host:port/database`";
const SOURCE_FORM: &str =
    "an item must be `{ shards = \"0-7\", url = \"mysql://…\" }`, or the text `0-7 mysql://…`";

/// Where a cluster keeps its data.
#[derive(Debug)]
pub(crate) struct ClusterStore {
    pub(crate) meta: SecretString,
    pub(crate) sources: Vec<Source>,
    /// Of this process, to each database.
    pub(crate) connections: u32,
    /// Expected in the whole cluster.
    pub(crate) processes: u32,
    /// Whether a server may answer a commit before it is on its disk.
    pub(crate) allow_unsynced: bool,
}

/// A database, and the shards put on it when the store is made.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) url: SecretString,
    pub(crate) shards: RangeInclusive<u16>,
}

impl ClusterStore {
    /// The most connections of this process to its databases.
    pub(crate) fn connections_of_a_process(&self) -> usize {
        let each = usize::try_from(self.connections).unwrap_or(usize::MAX).saturating_add(2);
        each.saturating_mul(self.sources.len() + 1)
    }

    /// `None` for an embedded store.
    pub(super) fn read(reader: &mut Reader<'_>, shards: u16) -> Option<Self> {
        let meta = reader.parsed("store.meta.url", |text| match text {
            "" => Ok(None),
            url => database_of(url).map(|_| Some(SecretString::from(url))).map_err(|()| META_FORM.to_owned()),
        });
        let sources = reader.items("store.sources", read_source);
        let connections = reader.number("store.connections", 2..=1_000);
        let processes = reader.number("store.processes", 1..=10_000);
        let allow_unsynced = reader.flag("store.allow_unsynced_commits");
        let Some(meta) = meta.flatten() else {
            if !sources.is_empty() {
                reader.wrong("store.sources", "needs `store.meta.url`: both make a cluster");
            }
            return None;
        };
        if reader.is_given("store.url") {
            reader.wrong("store.url", "is the embedded store, but `store.meta.url` is set: keep one of them");
        }
        if let Some(why) = unplaced(&sources, shards) {
            reader.wrong("store.sources", &why);
        }
        Some(Self { meta, sources, connections, processes, allow_unsynced })
    }
}

/// `host:port/database`, without who may use it.
fn database_of(url: &str) -> Result<String, ()> {
    let url = url::Url::parse(url).map_err(|_| ())?;
    let database = url.path().trim_matches('/');
    match url.host_str() {
        Some(host) if matches!(url.scheme(), "mysql" | "mariadb") && !database.is_empty() => {
            Ok(format!("{host}:{}/{database}", url.port().unwrap_or(3306)))
        }
        _ => Err(()),
    }
}

fn read_source(item: &Value) -> Result<Source, String> {
    let wrong = || SOURCE_FORM.to_owned();
    let (name, shards, url) = match item {
        Value::String(text) => {
            let (place, url) = text.split_once(' ').ok_or_else(wrong)?;
            let (name, shards) = place.rsplit_once(':').unwrap_or(("", place));
            (name, shards, url.trim())
        }
        Value::Table(table) => {
            let known = ["name", "shards", "url"];
            if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
                return Err(format!("an item has no `{key}`; it has `name`, `shards` and `url`"));
            }
            let text = |key: &str| table.get(key).and_then(Value::as_str);
            (
                text("name").unwrap_or_default(),
                text("shards").ok_or_else(wrong)?,
                text("url").ok_or_else(wrong)?,
            )
        }
        _ => return Err(wrong()),
    };
    let database = database_of(url).map_err(|()| format!("the url of shards {shards} {META_FORM}"))?;
    Ok(Source {
        name: if name.is_empty() { database } else { name.to_owned() },
        url: SecretString::from(url),
        shards: range(shards)?,
    })
}

/// For a source that shards will be moved to.
const NO_SHARDS: RangeInclusive<u16> = RangeInclusive::new(1, 0);

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    if text == "none" {
        return Ok(NO_SHARDS);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok();
    match number(first).zip(number(last)).filter(|(first, last)| first <= last) {
        Some((first, last)) => Ok(first..=last),
        None => Err(format!("`{text}` are no shards; for example `0-15`, `3`, or `none`")),
    }
}

/// Each shard is on one data source.
fn unplaced(sources: &[Source], shards: u16) -> Option<String> {
    let mut places = vec![0; usize::from(shards)];
    for source in sources {
        if sources.iter().filter(|other| other.name == source.name).count() > 1 {
            return Some(format!("two items are called `{}`: give them a `name`", source.name));
        }
        for shard in source.shards.clone() {
            match places.get_mut(usize::from(shard)) {
                Some(places) => *places += 1,
                None => return Some(format!("there is no shard {shard}: `store.shards` is {shards}")),
            }
        }
    }
    let wrong = places.iter().position(|places| *places != 1)?;
    let what = if places[wrong] == 0 { "on no source" } else { "on more than one source" };
    Some(format!("shard {wrong} is {what}; the items must cover 0 to {} once", shards.saturating_sub(1)))
}

impl Clone for Source {
    fn clone(&self) -> Self {
        let url = SecretString::from(self.url.expose_secret());
        Self { name: self.name.clone(), url, shards: self.shards.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<(String, RangeInclusive<u16>), String> {
        read_source(&Value::String(text.to_owned())).map(|source| (source.name, source.shards))
    }

    #[test]
    fn sources_are_texts_or_tables() {
        assert_eq!(source("0-7 mysql://u:p@db1/tsp"), Ok(("db1:3306/tsp".to_owned(), 0..=7)));
        assert!(source("none mysql://u:p@db2/tsp").is_ok_and(|(_, shards)| shards.is_empty()));
        assert_eq!(source("a:3 mysql://u:p@db1:33/tsp"), Ok(("a".to_owned(), 3..=3)));
        let table: toml::Table =
            "x = { name = \"trade\", shards = \"8-15\", url = \"mysql://u@h/d\" }".parse().unwrap();
        assert_eq!(read_source(&table["x"]).map(|source| source.name), Ok("trade".to_owned()));
        for bad in ["", "0-7", "7-0 mysql://h/d", "0-7 postgres://h/d", "0-7 mysql://h", "x mysql://h/d"] {
            assert!(source(bad).is_err(), "{bad}");
        }
        let secret = source("0-7 postgres://u:hunter2@h/d").unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn every_shard_has_one_place() {
        let places = |texts: &[&str]| {
            let sources: Vec<_> =
                texts.iter().map(|text| read_source(&Value::String((*text).to_owned())).unwrap()).collect();
            unplaced(&sources, 4)
        };
        assert_eq!(places(&["0-1 mysql://a/d", "2-3 mysql://b/d"]), None);
        for (texts, said) in [
            (vec!["0-1 mysql://a/d"], "shard 2 is on no source"),
            (vec!["0-2 mysql://a/d", "2-3 mysql://b/d"], "shard 2 is on more"),
            (vec!["0-4 mysql://a/d"], "no shard 4"),
            (vec!["0-1 mysql://a/d", "2-3 mysql://a/d"], "called `a:3306/d`"),
        ] {
            let why = places(&texts).expect(said);
            assert!(why.contains(said), "{why}");
        }
    }
}
