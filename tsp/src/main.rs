//! The one executable: roles, command line, settings, wiring.

fn main() {}
