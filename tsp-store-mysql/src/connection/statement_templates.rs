//! Statement templates: their texts are built once for each shard and never change, because the server and
//! the driver know a prepared statement by its whole text.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use metrics::{Histogram, histogram};
use parking_lot::RwLock;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tsp_core::ShardId;

/// The sizes of lists. A text of each size is prepared on each connection that needs it.
pub(crate) const BATCH_SIZES: [usize; 5] = [1, 10, 50, 100, 500];

/// The most ids of a list, or rows of a statement.
pub(crate) const ROWS_MAX: usize = BATCH_SIZES[BATCH_SIZES.len() - 1];

/// How many texts a connection may see for each shard of its data source: all that is written with
/// `{shard}`, each of its sizes counted. [`StatementTemplates`] checks whether there are more.
pub(crate) const STATEMENTS_OF_SHARD: usize = 224;
/// And without a shard.
pub(crate) const STATEMENTS_OF_DATABASE: usize = 128;

/// A prepared statement takes half a KiB of the server's memory for each placeholder, on each connection: at
/// 500 rows of 32 columns that would be 7 MiB.
const PLACEHOLDERS_MAX: usize = 1_600;

/// The most rows of this width that one statement inserts: a batch size class.
pub(crate) fn rows_max(width: usize) -> usize {
    BATCH_SIZES.into_iter().rev().find(|step| step * width <= PLACEHOLDERS_MAX).unwrap_or(1)
}

/// The database's clock in UTC milliseconds. `UNIX_TIMESTAMP` is 0 from 2038 on before MySQL 8.0.28, and takes
/// the local time: where clocks go back, an hour of it repeats.
macro_rules! database_now {
    () => {
        "CAST(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000 AS SIGNED)"
    };
}
pub(crate) use database_now;

/// `{now}` in templates.
const NOW: &str = database_now!();

/// Splits `n` greedily from the top: 730 = 500 + 100 + 100 + 10 + 10 + 10.
pub(crate) fn batch_sizes(n: usize) -> impl Iterator<Item = usize> {
    let mut left = n;
    std::iter::from_fn(move || {
        let step = BATCH_SIZES.into_iter().rev().find(|step| *step <= left)?;
        left -= step;
        Some(step)
    })
}

/// The ids for an `IN` list: the next batch size class, and the ids with the last one repeated up to it. At
/// most 500 ids; none gives nothing to ask for.
pub(crate) fn padded_to_class(ids: &[i64]) -> (usize, impl Iterator<Item = i64>) {
    let step = BATCH_SIZES.into_iter().find(|step| *step >= ids.len()).unwrap_or(ids.len());
    let last = ids.last().copied().into_iter().cycle();
    (step, ids.iter().copied().chain(last.take(step - ids.len())))
}

/// A text that may be sent: only this module makes one, from a constant.
#[derive(Clone)]
pub(crate) struct StatementText {
    text: Arc<str>,
    name: &'static str,
    seconds: Histogram,
}

impl StatementText {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How long the statement took, under its name.
    pub(crate) fn seconds(&self) -> &Histogram {
        &self.seconds
    }
}

impl fmt::Debug for StatementText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for StatementText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl SqlSafeStr for StatementText {
    fn into_sql_str(self) -> SqlStr {
        safe(self.text)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one road: texts are constants with numbers put in")]
fn safe(text: Arc<str>) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// DDL, which is built from constants and numbers too, and is not kept.
pub(crate) fn ddl(text: String) -> SqlStr {
    safe(text.into())
}

/// Which text of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TemplateKey {
    /// The template's address in memory: constants do not move.
    at: usize,
    len: usize,
    width: usize,
    n: usize,
}

/// The texts of one shard, or of a database as such.
#[derive(Debug)]
pub(crate) struct StatementTemplates {
    shard: Option<ShardId>,
    built: RwLock<HashMap<TemplateKey, StatementText>>,
}

impl StatementTemplates {
    pub(crate) fn new(shard: Option<ShardId>) -> Self {
        Self { shard, built: RwLock::default() }
    }

    /// The text: `{shard}` becomes `007`, `{now}` the database's clock.
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.get(template, 0, 0)
    }

    /// And `{list}` becomes `?, ?, …`, `n` of them: a batch size class.
    pub(crate) fn sql_list(&self, template: &'static str, n: usize) -> StatementText {
        self.get(template, 0, n)
    }

    /// And `{rows}` becomes `(?, …), …`: `n` rows, a batch size class, each `width` wide.
    pub(crate) fn sql_rows(&self, template: &'static str, width: usize, n: usize) -> StatementText {
        self.get(template, width, n)
    }

    fn get(&self, template: &'static str, width: usize, n: usize) -> StatementText {
        let shape = TemplateKey { at: template.as_ptr().addr(), len: template.len(), width, n };
        if let Some(sql) = self.built.read().get(&shape) {
            return sql.clone();
        }
        debug_assert!(n == 0 || BATCH_SIZES.contains(&n), "{n} is no batch size class");
        let sql = self.build(template, width, n);
        let mut built = self.built.write();
        let sql = built.entry(shape).or_insert(sql).clone();
        let counted = if self.shard.is_some() { STATEMENTS_OF_SHARD } else { STATEMENTS_OF_DATABASE };
        debug_assert!(built.len() <= counted, "{} texts and counted on {counted}", built.len());
        sql
    }

    fn build(&self, template: &'static str, width: usize, n: usize) -> StatementText {
        let mut text = template.replace("{now}", NOW);
        if let Some(shard) = self.shard {
            text = text.replace("{shard}", &format!("{:03}", shard.get()));
        }
        if width > 0 {
            let row = format!("({})", placeholders(width));
            text = text.replace("{rows}", &vec![row.as_str(); n].join(", "));
        } else if n > 0 {
            text = text.replace("{list}", &placeholders(n));
        }
        let name = name(template);
        StatementText { text: text.into(), name, seconds: histogram!("tsp_db_seconds", "statement" => name) }
    }
}

fn placeholders(n: usize) -> String {
    vec!["?"; n].join(", ")
}

/// The name that the template's first line gives.
fn name(template: &'static str) -> &'static str {
    template.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or("unnamed").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_split_from_the_top() {
        assert_eq!(batch_sizes(730).collect::<Vec<_>>(), [500, 100, 100, 10, 10, 10]);
        assert_eq!(batch_sizes(3).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(batch_sizes(0).count(), 0);
        assert_eq!(batch_sizes(1_234).sum::<usize>(), 1_234);
    }

    #[test]
    fn wide_rows_come_in_small_steps() {
        assert_eq!([1, 2, 10, 13, 32, 200].map(rows_max), [500, 500, 100, 100, 50, 1]);
    }

    #[test]
    fn a_list_is_padded_with_its_last() {
        let padded_to_class = |ids: &[i64]| {
            let (n, ids) = padded_to_class(ids);
            (n, ids.collect::<Vec<_>>())
        };
        assert_eq!(padded_to_class(&[7]), (1, vec![7]));
        assert_eq!(padded_to_class(&[7, 8, 9]), (10, vec![7, 8, 9, 9, 9, 9, 9, 9, 9, 9]));
        assert_eq!(padded_to_class(&[5; 500]), (500, vec![5; 500]));
        assert_eq!(padded_to_class(&[]), (1, vec![]));
    }

    #[test]
    fn a_text_is_built_for_its_shard_and_size_and_kept() {
        const TEMPLATE: &str = "-- some_name\nSELECT {now} FROM task_{shard} WHERE id IN ({list})";
        let templates = StatementTemplates::new(ShardId::new(7));
        let sql = templates.get(TEMPLATE, 0, 10);
        assert_eq!(sql.name(), "some_name");
        let text = sql.to_string();
        assert!(text.ends_with("FROM task_007 WHERE id IN (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"), "{text}");
        assert!(Arc::ptr_eq(&sql.text, &templates.get(TEMPLATE, 0, 10).text));
        assert!(!Arc::ptr_eq(&sql.text, &templates.get(TEMPLATE, 0, 1).text));
        let rows = templates.get("-- r\nINSERT INTO t VALUES {rows}", 2, 10).to_string();
        assert!(rows.ends_with(
            "VALUES (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?)"
        ));
    }
}
