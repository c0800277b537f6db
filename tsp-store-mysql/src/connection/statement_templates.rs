//! Statement templates: their texts are built once for each shard and never change. A server that prepares one
//! knows it by its whole text; into the others the values are written.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use metrics::{Histogram, histogram};
use parking_lot::RwLock;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tsp_core::ShardId;
use tsp_store::error::{Result, StoreError};

use crate::connection::prepared;
use crate::connection::value::Value;

/// The most ids of a list, or rows of a statement.
pub(crate) const ROWS_MAX: usize = 500;

/// Places of a template that a statement fills with as many values as it has.
const LIST: &str = "{list}";
const PAIRS: &str = "{pairs}";

/// A prepared statement takes half a KiB of the server's memory for each placeholder, on each connection: at
/// 500 rows of 32 columns that would be 7 MiB. So many are 128 new tasks.
const PLACEHOLDERS_MAX: usize = 1_664;

/// The most rows of this width that one statement inserts: a batch size class, which are the powers of two.
pub(crate) fn rows_max(width: usize) -> usize {
    power_of_two_to((PLACEHOLDERS_MAX / width.max(1)).clamp(1, ROWS_MAX))
}

/// The batch size class for the first of `rows` rows: 37 go as 32 + 4 + 1. None for none.
pub(crate) fn batch_size(rows: usize, width: usize) -> Option<usize> {
    (rows > 0).then(|| power_of_two_to(rows.min(rows_max(width))))
}

/// The largest power of two that is not above `n`, which is not 0.
fn power_of_two_to(n: usize) -> usize {
    1 << n.ilog2()
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

/// A text that may be sent: only this module makes one, from a constant.
#[derive(Clone)]
pub(crate) struct StatementText {
    text: Arc<str>,
    name: &'static str,
    /// Its place among those that are worth preparing.
    rank: Option<usize>,
    seconds: Histogram,
}

impl StatementText {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is among the first `kept` of those that are worth preparing.
    pub(crate) fn is_prepared(&self, kept: usize) -> bool {
        self.rank.is_some_and(|rank| rank < kept)
    }

    /// How long the statement took, under its name.
    pub(crate) fn seconds(&self) -> &Histogram {
        &self.seconds
    }

    /// Writes the text with its values. What the places of single values leave belongs to the lists, each of them
    /// as long as the other.
    ///
    /// # Errors
    /// [`StoreError::Internal`] for values that do not fill the places.
    pub(crate) fn write(&self, values: &[Value<'_>], text: &mut String) -> Result<()> {
        let singles = self.text.matches('?').count();
        let lists = self.text.matches(LIST).count() + self.text.matches(PAIRS).count();
        let listed = values.len().saturating_sub(singles).checked_div(lists).unwrap_or(0);
        if singles + lists * listed != values.len() || (lists > 0 && listed == 0) {
            let (name, given) = (self.name, values.len());
            return Err(StoreError::Internal(format!(
                "`{name}` was given {given} values, which do not fill it"
            )));
        }
        text.reserve(self.text.len() + 20 * values.len());
        let (mut template, mut values) = (&*self.text, values);
        while let Some(at) = template.find(['?', '{']) {
            text.push_str(&template[..at]);
            template = &template[at..];
            let (place, count) = [("?", 1), (LIST, listed), (PAIRS, listed)]
                .into_iter()
                .find(|(place, _)| template.starts_with(place))
                .unwrap_or((&template[..1], 0));
            let (here, later) = values.split_at(count);
            match place {
                PAIRS => write_pairs(here, text),
                "{" => text.push('{'),
                _ => write_list(here, text),
            }
            (template, values) = (&template[place.len()..], later);
        }
        text.push_str(template);
        Ok(())
    }
}

fn write_list(values: &[Value<'_>], text: &mut String) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        value.write(text);
    }
}

/// Never one alone: for a list of one pair MariaDB reads the whole table.
fn write_pairs(values: &[Value<'_>], text: &mut String) {
    let alone = if values.len() == 2 { values } else { &[] };
    for (at, pair) in values.chunks(2).chain(alone.chunks(2)).enumerate() {
        text.push_str(if at > 0 { ", (" } else { "(" });
        write_list(pair, text);
        text.push(')');
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

#[expect(clippy::disallowed_methods, reason = "the one road: texts are constants with literals put in")]
fn safe(text: Arc<str>) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// A text that is put together of constants and literals, and is not kept.
pub(crate) fn made(text: String) -> SqlStr {
    safe(text.into())
}

/// Which text of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TemplateKey {
    /// The template's address in memory: constants do not move.
    at: usize,
    len: usize,
    rows: usize,
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

    /// The text: `{shard}` becomes `007`, `{now}` the database's clock. A statement puts all values that its
    /// single places leave into `{list}`, or two by two into `{pairs}`.
    pub(crate) fn sql(&self, template: &'static str) -> StatementText {
        self.sql_rows(template, 0, 0)
    }

    /// And `{rows}` becomes `(?, …), …`: `rows` of them, a batch size class, each `width` wide.
    pub(crate) fn sql_rows(&self, template: &'static str, width: usize, rows: usize) -> StatementText {
        let key = TemplateKey { at: template.as_ptr().addr(), len: template.len(), rows };
        if let Some(sql) = self.built.read().get(&key) {
            return sql.clone();
        }
        debug_assert!(rows == 0 || rows.is_power_of_two(), "{rows} is no batch size class");
        let sql = self.build(template, width, rows);
        self.built.write().entry(key).or_insert(sql).clone()
    }

    fn build(&self, template: &'static str, width: usize, rows: usize) -> StatementText {
        let mut text = template.replace("{now}", NOW);
        if let Some(shard) = self.shard {
            text = text.replace("{shard}", &format!("{:03}", shard.get()));
        }
        if rows > 0 {
            let row = format!("({})", vec!["?"; width].join(", "));
            text = text.replace("{rows}", &vec![row.as_str(); rows].join(", "));
        }
        let name = name(template);
        let rank = self.shard.and_then(|_| prepared::rank(name, rows));
        StatementText {
            text: text.into(),
            name,
            rank,
            seconds: histogram!("tsp_db_seconds", "statement" => name),
        }
    }
}

/// The name that the template's first line gives.
fn name(template: &'static str) -> &'static str {
    template.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or("unnamed").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sql: &StatementText, values: &[i64]) -> Result<String> {
        let mut text = String::new();
        let values: Vec<Value<'_>> = values.iter().map(|value| Value::from(*value)).collect();
        sql.write(&values, &mut text).map(|()| text)
    }

    #[test]
    fn a_number_is_split_into_powers_of_two() {
        let mut left = 37;
        let sizes: Vec<usize> = std::iter::from_fn(|| {
            let size = batch_size(left, 32)?;
            left -= size;
            Some(size)
        })
        .collect();
        assert_eq!(sizes, [32, 4, 1]);
        assert_eq!(batch_size(0, 32), None);
        assert_eq!(batch_size(70, 32), Some(32));
    }

    #[test]
    fn wide_rows_come_in_small_steps() {
        assert_eq!([1, 5, 10, 13, 32, 2_000].map(rows_max), [256, 256, 128, 128, 32, 1]);
    }

    #[test]
    fn a_text_is_built_for_its_shard_and_size_and_kept() {
        const TEMPLATE: &str = "-- r\nINSERT INTO task_{shard} VALUES {rows}";
        let templates = StatementTemplates::new(ShardId::new(7));
        let sql = templates.sql_rows(TEMPLATE, 2, 4);
        assert_eq!(sql.name(), "r");
        assert_eq!(sql.to_string(), "-- r\nINSERT INTO task_007 VALUES (?, ?), (?, ?), (?, ?), (?, ?)");
        assert!(Arc::ptr_eq(&sql.text, &templates.sql_rows(TEMPLATE, 2, 4).text));
        assert!(!Arc::ptr_eq(&sql.text, &templates.sql_rows(TEMPLATE, 2, 1).text));
        assert!(written(&sql, &[1, 2, 3, 4, 5, 6, 7, -8]).unwrap().ends_with("(5, 6), (7, -8)"));
    }

    #[test]
    fn lists_take_what_single_places_leave() {
        const LISTS: &str = "-- l\nSELECT ? FROM a_{shard} WHERE a IN ({list}) AND b IN ({list}) LIMIT ?";
        let templates = StatementTemplates::new(ShardId::new(1));
        let sql = templates.sql(LISTS);
        let text = written(&sql, &[9, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(text, "-- l\nSELECT 9 FROM a_001 WHERE a IN (1, 2) AND b IN (3, 4) LIMIT 5");
        for wrong in [&[9, 1, 2, 3, 5][..], &[9, 5], &[]] {
            assert!(written(&sql, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_pair_is_never_alone() {
        const TEMPLATE: &str = "-- p\nDELETE FROM t WHERE (id, version) IN ({pairs}) AND {now} <= ?";
        let sql = StatementTemplates::new(None).sql(TEMPLATE);
        let text = written(&sql, &[1, 2, 7]).unwrap();
        assert!(text.contains("IN ((1, 2), (1, 2)) AND CAST") && text.ends_with("<= 7"), "{text}");
        let text = written(&sql, &[1, 2, 3, 4, 7]).unwrap();
        assert!(text.contains("IN ((1, 2), (3, 4)) AND"), "{text}");
    }
}
