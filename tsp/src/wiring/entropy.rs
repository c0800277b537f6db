//! The operating system's randomness: keys, tokens and jitter are made from nothing else.

use rand::TryRng as _;
use rand::rngs::SysRng;
use tsp_core::Entropy;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // A guessable key would be worse than no service.
        SysRng.try_fill_bytes(bytes).expect("the operating system gives random bytes");
    }
}
