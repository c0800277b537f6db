//! Property tests: what is written is read back equal.

