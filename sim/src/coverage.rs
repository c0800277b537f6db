//! Which transitions of `tsp-core` met which kind of fault.

use std::collections::BTreeSet;
use std::fmt;

use tsp_core::config::OnDuplicateKey;
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::transition::Completion;
use tsp_store::tasks::{Submit, TaskCommand};

/// What was asked of a row: [`tsp_core::transition::Event`] with what it leads to, and how rows come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    Submit,
    Reset,
    Fire,
    Claim,
    Begin,
    /// By the worker that will not begin it.
    Release,
    /// By the owner whose message was lost.
    ReturnToScheduled,
    Done,
    Retry,
    Fail,
    Accept,
    Snooze,
    /// By the owner, of a node that is gone.
    MarkWorkerLost,
    /// By the worker that finds it under its own name.
    ReleaseOrphans,
    Deadline,
    CompleteDone,
    CompleteRetry,
    CompleteFail,
    Progress,
    Pause,
    Resume,
    Postpone,
    Run,
    Cancel,
    Replay,
}

/// What happened to the call that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallFate {
    /// It failed and changed nothing.
    Before,
    /// It was refused as a bug of the store: an error that says "do not try again".
    Instead,
    /// It happened and its answer was lost.
    After,
    /// Its answer was lost, and it happened later.
    Late,
    /// Its future was dropped before it happened.
    CutBefore,
    /// Its future was dropped after it had happened.
    CutAfter,
}

impl Move {
    const ALL: [Self; 25] = [
        Self::Submit,
        Self::Reset,
        Self::Fire,
        Self::Claim,
        Self::Begin,
        Self::Release,
        Self::ReturnToScheduled,
        Self::Done,
        Self::Retry,
        Self::Fail,
        Self::Accept,
        Self::Snooze,
        Self::MarkWorkerLost,
        Self::ReleaseOrphans,
        Self::Deadline,
        Self::CompleteDone,
        Self::CompleteRetry,
        Self::CompleteFail,
        Self::Progress,
        Self::Pause,
        Self::Resume,
        Self::Postpone,
        Self::Run,
        Self::Cancel,
        Self::Replay,
    ];

    pub(crate) fn of_command(command: &TaskCommand) -> Self {
        match command {
            TaskCommand::Cancel => Self::Cancel,
            TaskCommand::Pause => Self::Pause,
            TaskCommand::Resume => Self::Resume,
            TaskCommand::Postpone { .. } => Self::Postpone,
            TaskCommand::Run => Self::Run,
            TaskCommand::Replay => Self::Replay,
            TaskCommand::Progress { .. } => Self::Progress,
            TaskCommand::Complete { completion, .. } => match completion {
                Completion::Done { .. } => Self::CompleteDone,
                Completion::Retry { .. } => Self::CompleteRetry,
                Completion::Fail { .. } => Self::CompleteFail,
            },
        }
    }

    pub(crate) fn of_verdict(verdict: &Verdict) -> Self {
        match verdict.outcome {
            Outcome::Done => Self::Done,
            Outcome::Retry(_) => Self::Retry,
            Outcome::Fail => Self::Fail,
            Outcome::Accepted => Self::Accept,
            Outcome::Snooze { .. } => Self::Snooze,
        }
    }

    pub(crate) fn of_submit(submit: &Submit) -> Self {
        let resets = submit.on_duplicate == OnDuplicateKey::Reset && submit.task.key.is_some();
        if resets { Self::Reset } else { Self::Submit }
    }
}

impl CallFate {
    const ALL: [Self; 6] =
        [Self::Before, Self::Instead, Self::After, Self::Late, Self::CutBefore, Self::CutAfter];
}

/// The pairs that were reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeSet<(Move, CallFate)>);

impl Coverage {
    pub(crate) fn note(&mut self, moves: &[Move], met: CallFate) {
        self.0.extend(moves.iter().map(|asked| (*asked, met)));
    }

    pub fn add(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// The pairs that can be and were not reached.
    pub fn missing(&self) -> Vec<(Move, CallFate)> {
        let all = Move::ALL.into_iter().flat_map(|asked| CallFate::ALL.map(|met| (asked, met)));
        all.filter(|(asked, met)| can_be(*asked, *met) && !self.0.contains(&(*asked, *met))).collect()
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.0).finish()
    }
}

/// What operators and receivers do never happens late: whoever asked gets the answer that it is not known
/// whether it happened, asks for something else meanwhile, and would be judged by it.
fn can_be(asked: Move, met: CallFate) -> bool {
    let of_operators = matches!(
        asked,
        Move::Submit
            | Move::Reset
            | Move::CompleteDone
            | Move::CompleteRetry
            | Move::CompleteFail
            | Move::Progress
            | Move::Pause
            | Move::Resume
            | Move::Postpone
            | Move::Run
            | Move::Cancel
            | Move::Replay
    );
    !(of_operators && met == CallFate::Late)
}
