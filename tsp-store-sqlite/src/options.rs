//! How a SQLite store is opened.

use std::path::PathBuf;
use std::time::Duration;

/// Where the database is, and how safe and large.
#[derive(Clone)]
pub struct SqliteOptions {
    pub location: DatabaseLocation,
    pub synchronous: Synchronous,
    /// Logical shards, 1..=512; fixed when the store is made.
    pub shards: u16,
    /// Connections that read beside the writer, 1..=64. An in-memory store has none.
    pub readers: usize,
    /// Page cache of the writer in MiB; each reader has an eighth of it.
    pub page_cache_mib: u32,
    /// Seals secrets at rest. `None`: the one in the file `<database>.key`, made at first start.
    pub secret_key: Option<[u8; 32]>,
    /// The log is folded into the file when it has this many pages.
    pub checkpoint_pages: i32,
    /// Looks for damage first, for at most so long: for a file whose last process did not close it.
    pub check_within: Option<Duration>,
    /// The most pages of 4 KiB that the file may have; `None`: as many as the disk holds.
    pub pages_max: Option<u32>,
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("location", &self.location)
            .field("synchronous", &self.synchronous)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseLocation {
    File(PathBuf),
    /// Gone when the store is dropped.
    Memory,
}

/// What a power loss may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Nothing that was answered: each commit is on the disk.
    #[default]
    Full,
    /// The last commits; never the consistency of the file. For tests and benchmarks.
    Normal,
}

impl Synchronous {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

impl SqliteOptions {
    /// The defaults of `config/default.toml`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            location: DatabaseLocation::File(path.into()),
            synchronous: Synchronous::Full,
            shards: 16,
            readers: 4,
            page_cache_mib: 64,
            secret_key: None,
            checkpoint_pages: 1_000,
            check_within: None,
            pages_max: None,
        }
    }

    pub fn memory() -> Self {
        Self { location: DatabaseLocation::Memory, ..Self::file("") }
    }
}
