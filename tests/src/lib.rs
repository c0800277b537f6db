//! The integration executable.
