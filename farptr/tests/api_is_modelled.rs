//! Every public method of a box, a vector, a map and what these give is called by a model: whoever adds one extends the model.
//!
//! Read from the sources by their names, so a call of a method of the same name of another type counts as well. It finds what is
//! forgotten, not what is hidden.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// Names of the functions that `sources` export: `pub fn`, `pub async fn`.
fn exported<'a>(sources: &[&'a str]) -> BTreeSet<&'a str> {
    let name = |line: &'a str| {
        let line = line.trim_start().strip_prefix("pub ")?;
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        rest.split(['(', '<']).next()
    };
    sources.iter().flat_map(|source| source.lines()).filter_map(name).collect()
}

/// Those that no model calls.
fn not_called(sources: &[&str], models: &[&str]) -> Vec<String> {
    let called = |name: &str| {
        let calls = [format!(".{name}("), format!("::{name}("), format!("::{name}::<")];
        models.iter().any(|model| calls.iter().any(|call| model.contains(call.as_str())))
    };
    exported(sources).into_iter().filter(|name| !called(name)).map(str::to_owned).collect()
}

#[test]
fn every_method_of_a_box_is_called_by_its_model() {
    let sources = [include_str!("../src/rem_box.rs"), include_str!("../src/pin.rs")];
    assert!(exported(&sources).len() > 25);
    assert_eq!(not_called(&sources, &[include_str!("rem_box/model.rs")]), [""; 0]);
}

#[test]
fn every_method_of_a_vector_is_called_by_its_model() {
    let sources = [include_str!("../src/rem_vec/vec.rs"), include_str!("../src/rem_vec/iter.rs")];
    assert!(exported(&sources).len() > 35);
    assert_eq!(not_called(&sources, &[include_str!("rem_vec/model.rs")]), [""; 0]);
}

#[test]
fn every_method_of_a_map_is_called_by_its_model() {
    let sources = [
        include_str!("../src/rem_hash_map/map.rs"),
        include_str!("../src/rem_hash_map/read.rs"),
        include_str!("../src/rem_hash_map/write.rs"),
        include_str!("../src/rem_hash_map/entry.rs"),
        include_str!("../src/rem_hash_map/iter.rs"),
        include_str!("../src/rem_hash_map/into_iter.rs"),
        include_str!("../src/rem_hash_map/pin.rs"),
    ];
    assert!(exported(&sources).len() > 70);
    // What makes a map or tells how it was made has tests of its own in `api.rs`.
    let models =
        [include_str!("rem_hash_map/model.rs"), include_str!("rem_hash_map/api.rs"), include_str!("rem_hash_map/footprint.rs")];
    assert_eq!(not_called(&sources, &models), [""; 0]);
}
