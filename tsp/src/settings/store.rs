//! `[store]`

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tsp_core::Millis;

use super::cluster::ClusterStore;
use super::reader::Reader;

const MIB: usize = 1024 * 1024;
const URL_FORMS: &str = "must be `sqlite:` and a path, for example `sqlite:tsp.db`, or `sqlite::memory:`";

/// Where tasks are kept.
#[derive(Debug)]
pub(crate) enum StoreLocation {
    File(PathBuf),
    Memory,
    Cluster(ClusterStore),
}

#[derive(Debug)]
pub(crate) struct StoreSettings {
    pub(crate) location: StoreLocation,
    pub(crate) shards: u16,
    /// Whether a commit is on the disk before it is answered.
    pub(crate) synchronous_full: bool,
    /// How long a start after a stop that was none looks for damage; zero: not at all.
    pub(crate) check_at_start: Duration,
    pub(crate) readers: usize,
    pub(crate) page_cache_mib: u32,
    pub(crate) secret_key: Option<SecretKey>,
}

/// Seals secrets at rest; never shows itself.
#[derive(Debug)]
pub(crate) struct SecretKey(SecretString);

impl SecretKey {
    pub(crate) fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        hex::decode_to_slice(self.0.expose_secret(), &mut bytes).expect("`read` has decoded it before");
        bytes
    }
}

impl StoreSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let location = reader.parsed("store.url", parse_url);
        let shards = reader.number("store.shards", 1..=u32::from(tsp_core::ids::SHARDS_MAX));
        let shards = u16::try_from(shards).unwrap_or(1);
        let cluster = ClusterStore::read(reader, shards);
        let full = reader.choice("store.synchronous", &[("full", true), ("normal", false)]);
        let check_at_start = reader.duration("store.check_at_start", Millis::ZERO..=Millis::from_mins(10));
        let readers = reader.number("store.readers", 1..=64);
        let page_cache = reader.size("store.page_cache", MIB..=65_536 * MIB);
        let key = reader.parsed("store.secret_key", |text| {
            let good = text.is_empty() || hex::decode_to_slice(text, &mut [0; 32]).is_ok();
            let key = (!text.is_empty()).then(|| SecretKey(SecretString::from(text)));
            if good { Ok(key) } else { Err("must be 64 hexadecimal digits".to_owned()) }
        });
        if cluster.is_some() && matches!(key, Some(None)) {
            reader.wrong("store.secret_key", "is needed by a cluster: make one with `openssl rand -hex 32`");
        }
        Some(Self {
            location: cluster.map_or(location, |cluster| Some(StoreLocation::Cluster(cluster)))?,
            shards,
            synchronous_full: full,
            check_at_start,
            readers: usize::try_from(readers).unwrap_or(1),
            page_cache_mib: u32::try_from(page_cache / MIB).unwrap_or(1),
            secret_key: key?,
        })
    }
}

fn parse_url(text: &str) -> Result<StoreLocation, String> {
    match text.split_once(':') {
        Some(("sqlite", ":memory:")) => Ok(StoreLocation::Memory),
        Some(("sqlite", path)) => {
            // `sqlite:///var/lib/tsp.db` and `sqlite:/var/lib/tsp.db` mean the same file.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('?') {
                Err(URL_FORMS.to_owned())
            } else {
                Ok(StoreLocation::File(path.into()))
            }
        }
        Some(("mysql" | "mariadb", _)) => {
            Err("is for the embedded store; a cluster is set up with `store.meta.url` and `store.sources`"
                .to_owned())
        }
        _ => Err(URL_FORMS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file_or_memory() {
        assert!(matches!(parse_url("sqlite::memory:"), Ok(StoreLocation::Memory)));
        for (url, path) in [
            ("sqlite:tsp.db", "tsp.db"),
            ("sqlite:/var/lib/tsp.db", "/var/lib/tsp.db"),
            ("sqlite:///var/lib/tsp.db", "/var/lib/tsp.db"),
        ] {
            assert!(
                matches!(parse_url(url), Ok(StoreLocation::File(file)) if file.as_os_str() == path),
                "{url}"
            );
        }
        for bad in ["", "tsp.db", "sqlite:", "sqlite://", "postgres://x", "sqlite:a.db?mode=ro"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
