//! Partitions by UTC day of history and of attempts: made ahead of their time, dropped whole when nobody needs
//! them. `p20261121` holds that day, the earliest one also what lies before it, and `pmax` what no other holds.
//!
//! Each is made and dropped by a change of a table, which waits for the transactions that use it while all later
//! ones wait for it: so it waits only shortly, and is tried again another time.
use tsp_core::Timestamp;
use tsp_store::error::{Result, StoreError};

use crate::connection::db::ShardDb;
use crate::connection::fault::store_error;
use crate::connection::session::{Session, query};
use crate::connection::statement_templates::made;

const PARTITIONS: &str = "-- partitions
SELECT PARTITION_NAME, PARTITION_DESCRIPTION FROM information_schema.PARTITIONS
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND PARTITION_NAME IS NOT NULL
ORDER BY PARTITION_ORDINAL_POSITION";

/// How long a change of a table may wait, and be in the way of others.
const WAIT_SHORTLY: &str = "-- wait_shortly\nSET SESSION lock_wait_timeout = 2";
const WAIT_AS_USUAL: &str = "-- wait_as_ever\nSET SESSION lock_wait_timeout = DEFAULT";

const DAY_MS: i64 = 86_400_000;

/// How many days ahead have a partition.
const DAYS_AHEAD: i64 = 3;

/// The partition of what no day holds.
const PARTITION_MAX: &str = "PARTITION pmax VALUES LESS THAN MAXVALUE";

/// What a new table begins with: yesterday, today, the days ahead, and the rest.
pub(crate) fn first_partitions(now: Timestamp) -> String {
    let today = day_of(now);
    let days = (today - 1..=today + DAYS_AHEAD).map(partition);
    days.chain([PARTITION_MAX.to_owned()]).collect::<Vec<_>>().join(", ")
}

/// A table that is partitioned by day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DailyTable {
    History,
    Attempt,
}

impl DailyTable {
    pub(crate) const ALL: [Self; 2] = [Self::History, Self::Attempt];

    pub(crate) fn table(self, on: &ShardDb) -> String {
        let name = match self {
            Self::History => "history",
            Self::Attempt => "attempt",
        };
        format!("{name}_{:03}", on.shard.get())
    }
}

/// One that has an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DayPartition {
    pub(crate) name: String,
    /// It holds what is before this and after the end of the one before it.
    pub(crate) end: Timestamp,
}

/// The days of a table, the earliest first.
pub(crate) async fn days(conn: &mut Session, on: &ShardDb, of: DailyTable) -> Result<Vec<DayPartition>> {
    let sql = conn.sql(PARTITIONS);
    let rows = query(&sql).bind(of.table(on)).fetch_all(conn).await?;
    let mut days = Vec::with_capacity(rows.len());
    for row in &rows {
        // MAXVALUE is no number.
        let end: String = row.get(1)?;
        if let Ok(end) = end.parse() {
            days.push(DayPartition { name: row.get(0)?, end: Timestamp::from_ms(end) });
        }
    }
    Ok(days)
}

/// Makes the days up to [`DAYS_AHEAD`] from now that are missing.
pub(crate) async fn keep_ahead(on: &ShardDb, now: Timestamp) -> Result<()> {
    let mut conn = on.conn().await?;
    for of in DailyTable::ALL {
        let last = days(&mut conn, on, of).await?.last().map(|day| day.end);
        let Some(missing) = missing_days(last, now) else { continue };
        let table = of.table(on);
        let text = format!("-- days_ahead\nALTER TABLE {table} REORGANIZE PARTITION pmax INTO ({missing})");
        if let Err(error) = alter(&mut conn, text).await {
            // Another process may have been first.
            if days(&mut conn, on, of).await?.last().map(|day| day.end) == last {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Days since 1970.
const fn day_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(DAY_MS)
}

/// When a day begins.
const fn start_of(day: i64) -> Timestamp {
    Timestamp::from_ms(day.saturating_mul(DAY_MS))
}

/// The name of a day's partition.
fn partition_name(day: i64) -> String {
    let digits = start_of(day).to_string();
    let date = digits.split('T').next().unwrap_or_default();
    format!("p{}", date.replace('-', ""))
}

/// A day's partition as it stands in `PARTITION BY RANGE` and in `REORGANIZE PARTITION`.
fn partition(day: i64) -> String {
    format!("PARTITION {} VALUES LESS THAN ({})", partition_name(day), start_of(day + 1).ms())
}

/// What the last partition is reorganised into; `None`: nothing is missing.
fn missing_days(last: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let today = day_of(now);
    let from = last.map_or(today, |last| day_of(last).max(today));
    let missing: Vec<String> = (from..=today + DAYS_AHEAD).map(partition).collect();
    (!missing.is_empty()).then(|| format!("{}, {PARTITION_MAX}", missing.join(", ")))
}

/// Drops a day with all its rows.
pub(crate) async fn drop_day(
    conn: &mut Session,
    on: &ShardDb,
    of: DailyTable,
    day: &DayPartition,
) -> Result<()> {
    let text = format!("-- drop_day\nALTER TABLE {} DROP PARTITION {}", of.table(on), checked(&day.name)?);
    alter(conn, text).await
}

/// A name as it may stand in a text.
fn checked(name: &str) -> Result<&str> {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { Ok(name) } else { Err(StoreError::Internal(format!("`{name}` is no partition of ours"))) }
}

async fn alter(conn: &mut Session, text: String) -> Result<()> {
    sqlx::raw_sql(WAIT_SHORTLY).execute(conn.raw()?).await.map_err(store_error)?;
    let done = sqlx::raw_sql(made(text)).execute(conn.raw()?).await;
    sqlx::raw_sql(WAIT_AS_USUAL).execute(conn.raw()?).await.map_err(store_error)?;
    done.map(|_| ()).map_err(store_error)
}

/// Where the day before `day` ends: what it holds begins there.
pub(crate) fn begin_of(days: &[DayPartition], day: &DayPartition) -> Timestamp {
    let before = days.iter().map(|other| other.end).filter(|end| *end < day.end).max();
    before.unwrap_or(Timestamp::from_ms(i64::MIN))
}

/// A number for the sums of a day that is being dropped; processes have positive ones.
pub(crate) fn account(day: &DayPartition) -> i64 {
    -day_of(day.end).max(1)
}

#[cfg(test)]
mod tests {
    use tsp_core::Millis;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    #[test]
    fn a_partition_ends_where_its_day_ends() {
        let now = Timestamp::from_ms(1_795_257_000_000);
        assert!(now.to_string().starts_with("2026-11-21"), "{now}");
        assert_eq!(partition_name(day_of(now)), "p20261121");
        assert_eq!(partition(day_of(now)), "PARTITION p20261121 VALUES LESS THAN (1795305600000)");
        assert_eq!(day_of(Timestamp::from_ms(1_795_305_600_000)), day_of(now) + 1);
        let all = first_partitions(now);
        assert!(
            all.starts_with("PARTITION p20261120 ")
                && all.ends_with("(1795564800000), PARTITION pmax VALUES LESS THAN MAXVALUE"),
            "{all}"
        );
    }

    #[test]
    fn only_missing_days_are_made() {
        let today = day_of(NOW);
        let all = missing_days(None, NOW).unwrap();
        assert!(
            all.starts_with("PARTITION p20261121 VALUES LESS THAN (1795305600000), PARTITION p20261122"),
            "{all}"
        );
        assert!(all.ends_with("(1795564800000), PARTITION pmax VALUES LESS THAN MAXVALUE"), "{all}");
        let one = missing_days(Some(start_of(today + DAYS_AHEAD)), NOW).unwrap();
        assert_eq!(one.matches("LESS THAN").count(), 2, "{one}");
        assert_eq!(missing_days(Some(start_of(today + DAYS_AHEAD + 1)), NOW), None);
        // After a long rest the days that nobody made are in the first one.
        let rested = missing_days(Some(NOW.minus(Millis::from_days(90))), NOW).unwrap();
        assert_eq!(rested, all);
    }

    #[test]
    fn a_name_from_the_database_is_checked() {
        assert!(checked("p20261121").is_ok());
        for bad in ["", "p1; DROP", "p`"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
