//! What only the tables tell: how many tasks are claimed at an instant.

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

use crate::cluster::SHARDS;
use crate::service::Service;

/// Tasks that are claimed, or further, and not ended.
pub(crate) fn claimed(service: &Service) -> Result<usize> {
    if let Some((servers, databases)) = service.cluster() {
        let of_shard =
            |shard| format!("SELECT COUNT(*) AS n FROM {} WHERE phase = 1", databases.table("task", shard));
        let all: Vec<_> = (0..SHARDS).map(of_shard).collect();
        // A claim that is not committed yet is work as well.
        let said = servers.sql(&format!(
            "SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; SELECT SUM(n) FROM ({}) AS shards",
            all.join(" UNION ALL ")
        ))?;
        return said.trim().parse().with_context(|| format!("claimed tasks: `{said}`"));
    }
    let file = service.file().context("it has a database")?;
    let reader = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let count = "SELECT COUNT(*) FROM task WHERE phase = 1";
    Ok(usize::try_from(reader.query_row(count, [], |row| row.get::<_, i64>(0))?)?)
}
