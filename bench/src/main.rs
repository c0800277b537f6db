//! Benchmarks beside a raw HTTP loop.

fn main() {}
