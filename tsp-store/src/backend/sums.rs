//! What a transaction adds to the auditor's sums.

use tsp_core::task::EndResult;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub accepted: i64,
    /// By result, in the order of [`EndResult::ALL`].
    pub ended_by_result: [i64; EndResult::ALL.len()],
    pub dropped: i64,
}

impl Sums {
    /// A task without a result is not ended, and makes the auditor speak up.
    pub fn end(&mut self, result: Option<EndResult>) {
        if let Some(at) = EndResult::ALL.iter().position(|known| Some(*known) == result) {
            self.ended_by_result[at] += 1;
        }
    }

    pub fn ended(&self) -> i64 {
        self.ended_by_result.iter().sum()
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
