use farptr::Far;
use std::collections::{HashMap, HashSet};

#[derive(Far)]
struct Postings {
    documents: Vec<u32>,
    by_word: HashMap<u32, u64>,
    seen: HashSet<u32>,
}

fn main() {}
