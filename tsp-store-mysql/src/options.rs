//! How a store on MySQL or MariaDB is opened.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tsp_core::{Clock, Entropy, Millis};

/// The databases of a cluster. Every process of it is given the same.
#[derive(Clone)]
pub struct MySqlOptions {
    /// `mysql://user:password@host:port/database`: apps, configs, keys, nodes.
    pub meta: String,
    /// Where tasks are. Names are for operators and for the shard map, and never change.
    pub sources: Vec<SourceOptions>,
    /// Logical shards, 1..=512; fixed when the store is made.
    pub shards: u16,
    /// Seals secrets at rest; the same for every process, fixed when the store is made.
    pub secret_key: [u8; 32],
    /// The most connections of this process to each database.
    pub connections: u32,
    /// How many processes are expected to serve this cluster: for the statement budget of a server.
    pub processes: u32,
    /// How far this machine's clock may be from a database's before it is logged.
    pub max_skew: Millis,
    /// Servers that answer a commit before it is on their disk are taken.
    pub allow_unsynced: bool,
    /// How long a call waits for a connection.
    pub acquire_timeout: Millis,
    /// This machine's, which the servers' are compared with.
    pub clock: Arc<dyn Clock>,
    /// For the pauses before a transaction is tried again.
    pub entropy: Arc<dyn Entropy>,
}

/// A database with the shards that are put on it at first; later the shard map in meta decides.
#[derive(Clone)]
pub struct SourceOptions {
    pub name: String,
    pub url: String,
    pub shards: RangeInclusive<u16>,
}

impl MySqlOptions {
    /// The defaults of `config/default.toml`, with all shards on one data source.
    pub fn new(
        meta: impl Into<String>,
        source: impl Into<String>,
        shards: u16,
        secret_key: [u8; 32],
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let all = SourceOptions {
            name: "main".to_owned(),
            url: source.into(),
            shards: 0..=shards.saturating_sub(1),
        };
        Self {
            meta: meta.into(),
            sources: vec![all],
            shards,
            secret_key,
            connections: 16,
            processes: 4,
            max_skew: Millis::from_ms(500),
            allow_unsynced: false,
            acquire_timeout: Millis::from_secs(5),
            clock,
            entropy,
        }
    }
}

/// Without addresses, which hold passwords, and without the key.
impl std::fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlOptions")
            .field("sources", &self.sources)
            .field("shards", &self.shards)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceOptions")
            .field("name", &self.name)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
