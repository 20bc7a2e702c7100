//! Benchmarks of farptr; see `benches/`.
