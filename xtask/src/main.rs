//! Checks of the repository itself: layers, sizes, generated files.

fn main() {}
