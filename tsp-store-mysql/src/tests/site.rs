//! Databases of a store with four shards on two data sources, made once and used by one test after the
//! other: making one takes a while, emptying one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use peers::MariaDb;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tsp_core::{Entropy, ManualClock, Millis};

use crate::tests::fixture::NOW;
use crate::{MySqlOptions, MySqlStore, SourceOptions};

pub(in super::super) const SHARDS: u16 = 4;

/// Empty databases that nobody uses.
static FREE: Mutex<Vec<Site>> = Mutex::new(Vec::new());

/// Randomness that is the same for the same seed.
#[derive(Debug)]
pub(in super::super) struct Seeded(AtomicU64);

impl Seeded {
    pub(in super::super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).to_be_bytes();
            chunk.copy_from_slice(&mixed[..chunk.len()]);
        }
    }
}

/// On a clock that stands still, and with randomness of a seed.
pub(in super::super) fn options(
    meta: impl Into<String>,
    source: impl Into<String>,
    shards: u16,
    secret_key: [u8; 32],
) -> MySqlOptions {
    let (clock, entropy) = (Arc::new(ManualClock::at(NOW)), Arc::new(Seeded::new(0)));
    MySqlOptions::new(meta, source, shards, secret_key, clock, entropy)
}

/// The databases of one store.
#[derive(Debug, Clone)]
struct Site {
    meta: String,
    sources: [String; 2],
    /// How the day partitions were made.
    days: String,
}

/// The databases that a test has to itself. They are left as the test leaves them, for the next one to
/// empty.
#[derive(Debug)]
pub(in super::super) struct Databases {
    site: Site,
    /// Not worth emptying.
    spent: bool,
}

impl Drop for Databases {
    fn drop(&mut self) {
        if !self.spent {
            FREE.lock().push(self.site.clone());
        }
    }
}

impl Databases {
    /// Empty ones.
    pub(in super::super) async fn take() -> Self {
        loop {
            let free = FREE.lock().pop();
            let Some(site) = free else { return Self { site: Site::make().await, spent: false } };
            if site.empty().await {
                return Self { site, spent: false };
            }
        }
    }

    /// Nobody uses them after this test.
    pub(in super::super) fn for_good(mut self) -> Self {
        self.spent = true;
        self
    }

    pub(in super::super) fn options(&self) -> MySqlOptions {
        self.site.options()
    }

    pub(in super::super) async fn open(&self) -> MySqlStore {
        MySqlStore::open(&self.options()).await.expect("the databases are migrated")
    }

    /// Where a shard is.
    pub(in super::super) fn source_of(&self, shard: u16) -> &str {
        &self.site.sources[usize::from(shard >= SHARDS / 2)]
    }

    pub(in super::super) fn sources(&self) -> &[String; 2] {
        &self.site.sources
    }

    pub(in super::super) fn meta(&self) -> &str {
        &self.site.meta
    }

    /// An empty store with these databases.
    pub(in super::super) async fn store() -> (MySqlStore, Arc<Self>) {
        let databases = Self::take().await;
        (databases.open().await, Arc::new(databases))
    }
}

/// A connection that belongs to no store.
pub(in super::super) async fn connect(database: &str) -> MySqlConnection {
    let url = MariaDb::shared().url(database);
    let options: MySqlConnectOptions = url.parse().expect("a url of `peers` is one");
    options.disable_statement_logging().connect().await.expect("the server runs")
}

/// Runs a text of this test's own making.
pub(in super::super) async fn sql(conn: &mut MySqlConnection, text: &str) -> Vec<sqlx::mysql::MySqlRow> {
    #[expect(clippy::disallowed_methods, reason = "texts of tests, with names that the tests made")]
    let safe = AssertSqlSafe(text.to_owned());
    sqlx::raw_sql(safe).fetch_all(conn).await.unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Site {
    async fn make() -> Self {
        let server = MariaDb::shared();
        let database = |hint: &str| server.create_database(hint);
        let (meta, sources) = (database("meta"), [database("one"), database("two")]);
        let mut site = Self { meta, sources, days: String::new() };
        MySqlStore::migrate(&site.options(), NOW).await.expect("new databases can be migrated");
        site.days = site.read_days().await;
        site
    }

    fn options(&self) -> MySqlOptions {
        let url = |database: &str| MariaDb::shared().url(database);
        let half = SHARDS / 2;
        let source = |at: usize, shards| SourceOptions {
            name: ["one", "two"][at].to_owned(),
            url: url(&self.sources[at]),
            shards,
        };
        MySqlOptions {
            sources: vec![source(0, 0..=half - 1), source(1, half..=SHARDS - 1)],
            acquire_timeout: Millis::from_secs(20),
            allow_unsynced: true,
            ..options(url(&self.meta), String::new(), SHARDS, [7; 32])
        }
    }

    /// Whether it is as it was made. Not when partitions have come or gone.
    async fn empty(&self) -> bool {
        if self.read_days().await != self.days {
            return false;
        }
        let kept = "'settings', 'counter', 'shard_place', 'schema_version', 'shard_epoch'";
        let [one, two] = &self.sources;
        let meta = &self.meta;
        let list = format!(
            "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA IN ('{meta}', '{one}', '{two}') AND TABLE_NAME NOT IN ({kept})"
        );
        let mut conn = connect(meta).await;
        let tables = sql(&mut conn, &list).await;
        let deletes = tables.iter().map(|row| format!("DELETE FROM {}", row.get::<String, _>(0)));
        let epochs = [one, two].map(|source| format!("UPDATE {source}.shard_epoch SET epoch = 0"));
        sql(&mut conn, &deletes.chain(epochs).collect::<Vec<_>>().join("; ")).await;
        conn.close().await.is_ok()
    }

    async fn read_days(&self) -> String {
        let [one, two] = &self.sources;
        let text = format!(
            "SELECT COALESCE(GROUP_CONCAT(PARTITION_DESCRIPTION ORDER BY TABLE_NAME, PARTITION_ORDINAL_POSITION), '') \
             FROM information_schema.PARTITIONS \
             WHERE TABLE_SCHEMA IN ('{one}', '{two}') AND TABLE_NAME IN ('history_000', 'attempt_003')"
        );
        let mut conn = connect(&self.meta).await;
        let rows = sql(&mut conn, &text).await;
        rows[0].get(0)
    }
}
