//! Partitions by UTC day: `p20261121` holds that day, the earliest one also what lies before it, and `pmax`
//! what no other holds.

use tsp_core::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// How many days ahead have a partition.
pub(crate) const DAYS_AHEAD: i64 = 3;

/// Days since 1970.
pub(crate) const fn day_of(at: Timestamp) -> i64 {
    at.ms().div_euclid(DAY_MS)
}

/// When a day begins.
pub(crate) const fn start_of(day: i64) -> Timestamp {
    Timestamp::from_ms(day.saturating_mul(DAY_MS))
}

/// The name of a day's partition.
pub(crate) fn partition_name(day: i64) -> String {
    let digits = start_of(day).to_string();
    let date = digits.split('T').next().unwrap_or_default();
    format!("p{}", date.replace('-', ""))
}

/// A day's partition as it stands in `PARTITION BY RANGE` and in `REORGANIZE PARTITION`.
pub(crate) fn partition(day: i64) -> String {
    format!("PARTITION {} VALUES LESS THAN ({})", partition_name(day), start_of(day + 1).ms())
}

/// The partition of what no day holds.
pub(crate) const PARTITION_MAX: &str = "PARTITION pmax VALUES LESS THAN MAXVALUE";

/// What a new table begins with: yesterday, today, the days ahead, and the rest.
pub(crate) fn first_partitions(now: Timestamp) -> String {
    let today = day_of(now);
    let days = (today - 1..=today + DAYS_AHEAD).map(partition);
    days.chain([PARTITION_MAX.to_owned()]).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
