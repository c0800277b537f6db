//! Which statements a server prepares; the others are sent as text.
//!
//! A prepared statement lives on the server, for each connection its own, and there is a limit for all of them
//! together. None is ever closed, because a close stalls the next statement for 40 ms (docs/reference/sql.md
//! section 2). So few are prepared, each for the life of its connection, and how many is worked out at start.

/// What is worth preparing of each shard, by name and by how many rows are written (0: not by rows). What the
/// limit leaves no room for is given up from the end.
pub(crate) const HOT: [(&str, usize); 22] = [
    ("claim_select", 0),
    ("history_insert", 1),
    ("history_insert", 8),
    ("task_insert_new", 1),
    ("history_insert", 32),
    ("task_insert_new", 64),
    ("task_insert_new", 128),
    ("history_insert", 4),
    ("balance_add", 0),
    ("task_insert_new", 8),
    ("history_insert", 2),
    ("history_insert", 16),
    ("task_insert_new", 2),
    ("task_insert_new", 4),
    ("task_insert_new", 16),
    ("task_insert_new", 32),
    ("task_update", 0),
    ("tasks_update", 0),
    ("attempt_insert", 1),
    ("idempotency_put", 1),
    ("attempt_insert", 8),
    ("idempotency_put", 64),
];

/// What servers allow unless they are told otherwise.
pub(crate) const ALLOWED_BY_DEFAULT: i64 = 16_382;

/// The place of a statement in [`HOT`].
pub(crate) fn rank(name: &str, rows: usize) -> Option<usize> {
    HOT.iter().position(|hot| *hot == (name, rows))
}

/// How many of [`HOT`] may be prepared for each of `shards`, which are all that lie on a server. Half of what it
/// allows: the other half is for processes that come before others have gone, and for whoever else uses it.
pub(crate) fn kept(allowed: i64, processes: u32, connections: u32, shards: usize) -> usize {
    let sharers = i64::from(processes.max(1)) * i64::from(connections.max(1));
    let shards = i64::try_from(shards.max(1)).unwrap_or(i64::MAX);
    let each = allowed / 2 / sharers / shards;
    usize::try_from(each).unwrap_or(0).min(HOT.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_together_prepare_half_of_what_a_server_allows() {
        assert_eq!(kept(ALLOWED_BY_DEFAULT, 8, 8, 16), 7);
        assert_eq!(kept(ALLOWED_BY_DEFAULT, 5, 8, 8), HOT.len());
        assert_eq!(kept(1_048_576, 8, 8, 64), HOT.len());
        assert_eq!(kept(500, 4, 8, 16), 0);
        assert_eq!(kept(0, 0, 0, 0), 0);
        for (processes, shards) in [(1, 512), (8, 16), (100, 1)] {
            let all = kept(ALLOWED_BY_DEFAULT, processes, 8, shards) * shards * 8;
            assert!(i64::try_from(all).unwrap() * i64::from(processes) <= ALLOWED_BY_DEFAULT / 2);
        }
    }

    #[test]
    fn each_place_is_one_statement() {
        for (at, (name, rows)) in HOT.into_iter().enumerate() {
            assert_eq!(rank(name, rows), Some(at), "{name} {rows}");
        }
        assert_eq!(rank("tasks_begin", 0), None);
    }
}
