//! All randomness of a history comes from one seed.

use parking_lot::Mutex;
use tsp_core::Entropy;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every seed is a good one.
#[derive(Debug)]
pub struct SeededRng {
    state: Mutex<u64>,
}

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }

    pub fn next(&self) -> u64 {
        let mut state = self.state.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// An index into something of this length, which is not empty.
    pub fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A number of milliseconds in `from..to`.
    pub fn ms(&self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap_or(1))).unwrap_or(0)
    }

    /// An index, as often as its weight says.
    pub fn pick(&self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        let hit = weights.iter().position(|weight| {
            let hit = left < *weight;
            left = left.saturating_sub(*weight);
            hit
        });
        hit.unwrap_or(0)
    }

    /// True `per_mille` times in a thousand.
    pub fn hits(&self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}

impl Entropy for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
