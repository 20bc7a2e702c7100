use farptr::{Far, RemHashMap};

#[derive(Far)]
struct Document {
    words: RemHashMap<u32, u32>,
}

fn main() {}
