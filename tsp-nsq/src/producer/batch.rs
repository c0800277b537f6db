//! Which messages go together in one `MPUB`.

use std::ops::Range;

/// Well below what nsqd takes (5 MiB), so that a batch does not hold up what comes after it.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_COUNT: usize = 1_000;

/// Cuts messages of these sizes into neighbours that go together. A message above the limit of a batch goes
/// alone.
pub(super) fn cut(sizes: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut end, mut bytes) = (0, 0, 0);
    for size in sizes {
        let full = end > start && (bytes + size + 4 > BATCH_BYTES || end - start == BATCH_COUNT);
        if full {
            batches.push(start..end);
            (start, bytes) = (end, 0);
        }
        end += 1;
        bytes += size + 4;
    }
    if end > start {
        batches.push(start..end);
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_ends_with_its_count_or_its_bytes() {
        assert_eq!(cut([]), []);
        assert_eq!(cut(vec![1; 2_500]), [0..1_000, 1_000..2_000, 2_000..2_500]);
        assert_eq!(cut([600_000, 500_000, 9, 2_000_000, 9]), [0..1, 1..3, 3..4, 4..5]);
    }

    proptest! {
        #[test]
        fn all_go_once_and_in_order(sizes in prop::collection::vec(1_usize..400_000, 0..3_000)) {
            let batches = cut(sizes.iter().copied());
            let mut next = 0;
            for batch in &batches {
                prop_assert_eq!(batch.start, next);
                next = batch.end;
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_COUNT);
                prop_assert!(sizes[batch.clone()].iter().map(|size| size + 4).sum::<usize>() <= BATCH_BYTES);
            }
            prop_assert_eq!(next, sizes.len());
        }
    }
}
