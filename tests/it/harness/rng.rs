//! Chance with a seed: what a failed run drew can be drawn again.

/// Splitmix64: small, and good enough to scatter moments and choices.
#[derive(Debug)]
pub(crate) struct TestRng(u64);

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the time, and printed, so that a failure shows the seed; `TSP_CHAOS_SEED` gives it again.
    pub(crate) fn fresh() -> Self {
        #[expect(clippy::disallowed_methods, reason = "what a run draws is chosen where it is started")]
        let given = std::env::var("TSP_CHAOS_SEED").ok();
        let given = given.map(|text| text.parse().expect("`TSP_CHAOS_SEED` is a number"));
        let seed = given.unwrap_or_else(|| super::now().ms().unsigned_abs());
        println!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
