//! What was on the wire at the same time, and which attempts the store gave up: by the receiver's own clock and the
//! store's own record.

use std::collections::HashMap;

use tsp_core::Timestamp;

use super::Arrival;

/// Attempts whose process was taken for gone, as the store records them, to be read by [`LostAttempt::parse`].
pub(crate) const LOST: &str =
    "SELECT task_id, attempt, node, started_at, ended_at FROM attempt{shard} WHERE kind = 6";

/// An attempt whose process was taken for gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostAttempt {
    pub(crate) task: String,
    pub(crate) attempt: u32,
    /// The id of the process.
    pub(crate) node: i64,
    pub(crate) began_at: Timestamp,
    pub(crate) closed_at: Timestamp,
}

impl LostAttempt {
    /// A row of [`LOST`].
    pub(crate) fn of(row: [i64; 5]) -> Self {
        let [task, attempt, node, began_at, closed_at] = row;
        Self {
            task: task.to_string(),
            attempt: u32::try_from(attempt).expect("attempts are few"),
            node,
            began_at: Timestamp::from_ms(began_at),
            closed_at: Timestamp::from_ms(closed_at),
        }
    }

    /// Lines of five numbers.
    pub(crate) fn parse(lines: &str) -> Vec<Self> {
        let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("`{text}` is no number: {e}"));
        let row = |line: &str| {
            let row: Vec<i64> = line.split_whitespace().map(number).collect();
            Self::of(row.try_into().unwrap_or_else(|row| panic!("{row:?} are not five columns")))
        };
        lines.lines().map(row).collect()
    }

    /// Whether its call went out: a begin whose answer was lost with its process, or its database, sent nothing.
    pub(crate) fn was_sent(&self, arrivals: &HashMap<(&str, u32), &Arrival>) -> bool {
        arrivals.contains_key(&(self.task.as_str(), self.attempt))
    }
}

pub(crate) fn by_attempt(arrivals: &[Arrival]) -> HashMap<(&str, u32), &Arrival> {
    arrivals.iter().map(|one| ((one.task(), one.attempt()), one)).collect()
}

/// Calls of one task of which the second came before the first was answered or cut off.
pub(crate) fn overlapping(arrivals: &[Arrival]) -> Vec<[&Arrival; 2]> {
    let mut by_task: HashMap<&str, Vec<&Arrival>> = HashMap::new();
    for arrival in arrivals {
        by_task.entry(arrival.task()).or_default().push(arrival);
    }
    let overlap = |pair: &&[&Arrival]| pair[0].left_at().is_none_or(|left_at| pair[1].at < left_at);
    let pairs = by_task.values().flat_map(|calls| calls.windows(2).filter(overlap));
    pairs.map(|pair| [pair[0], pair[1]]).collect()
}
