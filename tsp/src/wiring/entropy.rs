//! The process's randomness: keys, tokens, span ids and jitter are made from nothing else.

use rand::Rng as _;
use tsp_core::Entropy;

/// A generator of the thread's own (ChaCha, seeded and reseeded by the operating system): as hard to
/// guess as the system's, without a system call for each of the numbers that a callback takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes randomness")]
        rand::rng().fill_bytes(bytes);
    }
}
