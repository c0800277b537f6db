//! Where tasks live: the store traits, SQLite, in-memory, and the conformance suite.
