//! Makes a table the same as another one, in another database: key range by key range, and only where their
//! checksums differ. So the first copy, each later one, and what goes on after a crash are the same.
use tsp_core::ShardId;
use tsp_store::error::{Result, StoreError};

use crate::connection::link::Link;
use crate::connection::row::Row;
use crate::moving::tables::{Column, Stage, Table, columns};

/// Rows of a key range; a little more where rows share the key that they are scanned by.
const KEYS_PER_RANGE: i64 = 1_000;
/// A statement of rows ends when it is so long; servers take 16 MiB by default.
const STATEMENT_BYTES: usize = 1 << 20;

/// What one scan of a table found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ScanResult {
    /// Rows that were written.
    pub(super) written: u64,
    /// Stretches that were not the same.
    pub(super) different: u64,
}

/// A table here and there.
#[derive(Debug, Clone)]
pub(super) struct ChecksumDiff {
    from: String,
    to: String,
    scan: &'static [&'static str],
    columns: Vec<Column>,
}

/// After which key, and up to which; `None`: no end.
#[derive(Debug, Clone, Default)]
struct KeyRange {
    after: Option<Vec<String>>,
    up_to: Option<Vec<String>>,
}

impl ChecksumDiff {
    pub(super) async fn new(source: &mut Link, table: Table, shard: ShardId, stage: Stage) -> Result<Self> {
        let from = stage.table(table, shard);
        let mut columns = columns(source, &from).await?;
        columns.retain(|column| !column.generated);
        Ok(Self { from, to: Stage::Copy.table(table, shard), scan: table.scan, columns })
    }

    pub(super) async fn scan(&self, source: &mut Link, target: &mut Link) -> Result<ScanResult> {
        let mut scanned = ScanResult::default();
        let mut after = None;
        loop {
            let up_to = self.end_of(source, after.as_deref()).await?;
            let range = KeyRange { after, up_to };
            let there = self.sum(target, &self.to, &range).await?;
            // An empty one is filled without looking at what it should be.
            if there.starts_with("0 ") || there != self.sum(source, &self.from, &range).await? {
                scanned.different += u64::from(!there.starts_with("0 "));
                scanned.written += self.replace(source, target, &range).await?;
            }
            match range.up_to {
                Some(end) => after = Some(end),
                None => return Ok(scanned),
            }
        }
    }

    /// Both have so many rows.
    pub(super) async fn count(&self, source: &mut Link, target: &mut Link) -> Result<i64> {
        let here = source.number(format!("-- rows\nSELECT COUNT(*) FROM {}", self.from)).await?;
        let there = target.number(format!("-- rows\nSELECT COUNT(*) FROM {}", self.to)).await?;
        if here == there {
            return Ok(here);
        }
        Err(StoreError::Internal(format!("`{}` has {here} rows, and its copy {there}", self.from)))
    }

    /// The key at which the range that begins after `after` ends.
    async fn end_of(&self, source: &mut Link, after: Option<&[String]>) -> Result<Option<Vec<String>>> {
        let parts = self.scan.iter().map(|name| self.column(name).map(Column::literal));
        let parts = parts.collect::<Result<Vec<_>>>()?.join(", ");
        let text = format!(
            "-- stretch\nSELECT {parts} FROM {} WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
            self.from,
            after.map_or_else(|| "TRUE".to_owned(), |key| beyond(self.scan, key)),
            self.scan.join(", "),
            KEYS_PER_RANGE - 1
        );
        let rows = source.rows(text).await?;
        let read =
            |row: &Row| -> Result<Vec<String>> { (0..self.scan.len()).map(|at| row.get(at)).collect() };
        rows.first().map(read).transpose()
    }

    fn column(&self, name: &str) -> Result<&Column> {
        let found = self.columns.iter().find(|column| column.name == name);
        found.ok_or_else(|| StoreError::Internal(format!("`{}` has no column `{name}`", self.from)))
    }

    /// The number of rows, and a sum of 128 bits of each row's SHA-256. Rows of a key range have different
    /// keys, so none takes another out of it. Every value and every `NULL` differs from every other: values
    /// go in as hexadecimal digits, which hold neither the comma between them nor the dash.
    async fn sum(&self, on: &mut Link, table: &str, range: &KeyRange) -> Result<String> {
        let values = self.columns.iter().map(|column| format!("COALESCE(HEX(`{}`), '-')", column.name));
        let values = values.collect::<Vec<_>>().join(", ");
        let part = |from: u8| format!("BIT_XOR(CAST(CONV(SUBSTRING(sha, {from}, 16), 16, 10) AS UNSIGNED))");
        let text = format!(
            "-- stretch_sum\nSELECT CONCAT_WS(' ', COUNT(*), {}, {})
            FROM (SELECT SHA2(CONCAT_WS(',', {values}), 256) AS sha FROM {table} WHERE {}) AS sums",
            part(1),
            part(17),
            self.within(range)
        );
        on.texts(text).await?.pop().ok_or_else(|| StoreError::Internal("a sum gave no row".to_owned()))
    }

    fn within(&self, range: &KeyRange) -> String {
        let after = range.after.as_deref().map(|key| beyond(self.scan, key));
        let up_to = range.up_to.as_deref().map(|key| not_beyond(self.scan, key));
        let parts: Vec<String> = [after, up_to].into_iter().flatten().collect();
        if parts.is_empty() { "TRUE".to_owned() } else { parts.join(" AND ") }
    }

    async fn replace(&self, source: &mut Link, target: &mut Link, range: &KeyRange) -> Result<u64> {
        target.run("BEGIN".to_owned()).await?;
        let replaced = self.replace_in(source, target, range).await;
        let end = if replaced.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = target.run(end.to_owned()).await;
        let written = replaced?;
        ended.map(|_| written)
    }

    async fn replace_in(&self, source: &mut Link, target: &mut Link, range: &KeyRange) -> Result<u64> {
        let within = self.within(range);
        target.run(format!("-- stretch_clear\nDELETE FROM {} WHERE {within}", self.to)).await?;
        let literals = self.columns.iter().map(Column::literal).collect::<Vec<_>>().join(", ");
        let select = format!(
            "-- stretch_read\nSELECT CONCAT('(', CONCAT_WS(',', {literals}), ')') FROM {} WHERE {within}",
            self.from
        );
        let names = self.columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>();
        // A row that is in the way of another one is stale: its key range was copied before its delete.
        let head = format!("-- stretch_write\nREPLACE INTO {} ({}) VALUES ", self.to, names.join(", "));
        let (mut text, mut written) = (String::new(), 0);
        source
            .each(select, async |row| {
                if text.is_empty() {
                    text.push_str(&head);
                } else {
                    text.push(',');
                }
                text.push_str(&row);
                if text.len() >= STATEMENT_BYTES {
                    written += target.run(std::mem::take(&mut text)).await?;
                }
                Ok(())
            })
            .await?;
        if !text.is_empty() {
            written += target.run(text).await?;
        }
        Ok(written)
    }
}

/// Whether a row's key lies beyond `key`, written so that the server sees a range of its index in it.
fn beyond(scan: &[&str], key: &[String]) -> String {
    match (scan, key) {
        ([last], [value]) => format!("{last} > {value}"),
        ([first, scan @ ..], [value, key @ ..]) => {
            let rest = beyond(scan, key);
            format!("({first} > {value} OR ({first} = {value} AND {rest}))")
        }
        _ => "TRUE".to_owned(),
    }
}

/// The opposite of [`beyond`].
fn not_beyond(scan: &[&str], key: &[String]) -> String {
    match (scan, key) {
        ([last], [value]) => format!("{last} <= {value}"),
        ([first, scan @ ..], [value, key @ ..]) => {
            let rest = not_beyond(scan, key);
            format!("({first} < {value} OR ({first} = {value} AND {rest}))")
        }
        _ => "TRUE".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_a_range_of_the_index() {
        let key = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert_eq!(beyond(&["id"], &key(&["7"])), "id > 7");
        assert_eq!(beyond(&["a", "b"], &key(&["7", "8"])), "(a > 7 OR (a = 7 AND b > 8))");
        assert_eq!(not_beyond(&["a", "b"], &key(&["7", "8"])), "(a < 7 OR (a = 7 AND b <= 8))");
    }
}
