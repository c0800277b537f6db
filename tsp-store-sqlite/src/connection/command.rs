//! The store's commands by name, and the metrics kept under these names.

use std::fmt;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tsp_core::task::EndResult;

macro_rules! commands {
    ($($variant:ident = $name:literal,)*) => {
        /// What a caller asked for; its name is the `statement` label of `tsp_store_seconds`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Command {
            $($variant,)*
        }

        impl Command {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

commands! {
    Submit = "submit",
    Task = "task",
    TaskByKey = "task_by_key",
    Change = "change",
    CancelOpen = "cancel_open",
    Search = "search",
    Attempts = "attempts",
    Begin = "begin",
    Finish = "finish",
    Release = "release",
    Load = "load",
    Executing = "executing",
    ReleaseOrphans = "give_back",
    RegisterNode = "register_node",
    TakeShards = "take_shards",
    DeadNodes = "dead_nodes",
    EarliestDue = "heads",
    Claim = "claim",
    InFlight = "in_flight",
    ReturnToScheduled = "rearm",
    Export = "export",
    MarkWorkerLost = "lose",
    EndWaits = "end_waits",
    NextDeadline = "next_deadline",
    Parks = "parks",
    SavePark = "save_park",
    Cursors = "cursors",
    CursorsOf = "cursors_of",
    Fire = "fire",
    RetentionDrop = "prune",
    RetentionFind = "prune_find",
    Audit = "audit",
    CreateApp = "create_app",
    UpdateApp = "update_app",
    DeleteApp = "delete_app",
    CreateKey = "create_key",
    Keys = "keys",
    KeyByHash = "key_by_hash",
    DeleteKey = "delete_key",
    SaveConfig = "save_config",
    HoldConfig = "hold_config",
    DeleteConfig = "delete_config",
    RenewIdSlot = "renew_id_slot",
    AuditLog = "audit_log",
    Check = "check",
    Checkpoint = "checkpoint",
}

/// Handles are made once: looking one up by name costs ten times the recording (`docs/reference/speed.md`).
pub(crate) struct Metrics {
    commands: Vec<Histogram>,
    commit: Histogram,
    transactions: Counter,
    failed: Counter,
    batch: Histogram,
    ended: [Counter; EndResult::ALL.len()],
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let of = |name: &'static str| histogram!("tsp_store_seconds", "statement" => name);
        Self {
            commands: Command::ALL.iter().map(|command| of(command.as_str())).collect(),
            commit: of("commit"),
            transactions: counter!("tsp_store_transactions_total"),
            failed: counter!("tsp_store_transactions_failed_total"),
            batch: histogram!("tsp_store_batch_commands"),
            ended: EndResult::ALL.map(|end| counter!("tsp_tasks_ended_total", "result" => end.as_str())),
        }
    }

    /// The time in the database of one command, without its wait for the thread and for the commit.
    pub(crate) fn ran(&self, command: Command, took: Duration) {
        if let Some(histogram) = self.commands.get(command as usize) {
            histogram.record(took);
        }
    }

    pub(crate) fn committed(&self, commands: usize, took: Duration) {
        self.transactions.increment(1);
        #[expect(clippy::cast_precision_loss, reason = "a batch holds at most some thousands")]
        self.batch.record(commands as f64);
        self.commit.record(took);
    }

    /// Here and not at the worker, because a task also ends by a cancel, a completion or its expiry.
    pub(crate) fn ended(&self, by_result: &[i64; EndResult::ALL.len()]) {
        for (counter, count) in self.ended.iter().zip(by_result) {
            counter.increment(u64::try_from(*count).unwrap_or(0));
        }
    }

    pub(crate) fn rolled_back(&self) {
        self.failed.increment(1);
    }
}
