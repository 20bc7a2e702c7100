//! The lower parts, each alone against a simple model: local heap, budget, slot table, slabs, far space and images.
//!
//! Each file has its operations, the model, and what must hold after each operation. `PROPTEST_CASES=10000 cargo test -p farptr-runtime --test models`
//! runs longer. A failure prints the shortest sequence that shows it, and the line that repeats it.

mod budget;
mod far;
mod heap;
mod image;
mod large;
mod slab;
mod slots;

use proptest::test_runner::Config;

/// Attempts at a shorter sequence of a failure: some seconds.
const MOST_SHRINKS: u32 = 20_000;

/// `cases`, or as many as the environment asks for.
fn config(cases: u32) -> Config {
    let asked = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    Config { cases, max_shrink_iters: asked.max_shrink_iters.min(MOST_SHRINKS), ..asked }
}
