//! The planner never excludes a file that matches, and does exclude what it should.
#![forbid(unsafe_code)]

mod common;

use std::collections::BTreeSet;

use common::ChunkedStore;
use farptr_examples::codesearch::index::Index;
use farptr_examples::codesearch::pattern::{Case, Pattern, Syntax};
use farptr_examples::codesearch::plan::Plan;
use farptr_examples::codesearch::search::files_that_may_match;
use farptr_examples::codesearch::tree::Tree;
use farptr_examples::codesearch::trigram::Trigram;
use proptest::prelude::*;

fn pattern(text: &str, case: Case) -> Pattern {
    Pattern::new(text, Syntax::Regex, case).expect("a regex")
}

fn plan(text: &str) -> Plan {
    pattern(text, Case::Sensitive).plan().clone()
}

/// Whether a file with these trigrams satisfies `plan`.
fn holds(plan: &Plan, trigrams: &BTreeSet<Trigram>) -> bool {
    match plan {
        Plan::All => true,
        Plan::None => false,
        Plan::Has(trigram) => trigrams.contains(trigram),
        Plan::And(parts) => parts.iter().all(|part| holds(part, trigrams)),
        Plan::Or(parts) => parts.iter().any(|part| holds(part, trigrams)),
    }
}

fn trigrams(text: &[u8]) -> BTreeSet<Trigram> {
    text.split(|&byte| byte == b'\n').flat_map(Trigram::all_of).collect()
}

fn may_match(plan: &Plan, text: &str) -> bool {
    holds(plan, &trigrams(text.as_bytes()))
}

fn all_of(text: &str) -> Vec<Plan> {
    Trigram::all_of(text.as_bytes()).map(Plan::Has).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn plans_of_the_article() {
    // The examples of section "Indexed Regular Expression Search".
    assert_eq!(
        plan("Google.*Search"),
        Plan::And([all_of("Google"), all_of("Search")].concat().into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    );
    assert_eq!(plan("abcd"), Plan::And(all_of("abcd")));
    assert_eq!(plan("abc"), Plan::Has(Trigram::new(*b"abc")));
    assert_eq!(plan("a[bc]d"), Plan::Or([all_of("abd"), all_of("acd")].concat()));
    assert_eq!(plan("ab.*cd"), Plan::All);
    assert_eq!(plan("(abc|xyz)"), Plan::Or([all_of("abc"), all_of("xyz")].concat()));
    assert_eq!(plan("[a-z]{3,}"), Plan::All);
    assert_eq!(plan("(abc)*"), Plan::All);
    assert_eq!(plan("(abc)+x?"), Plan::Has(Trigram::new(*b"abc")));
    assert_eq!(plan(r"[^\x00-\x{10ffff}]"), Plan::None);
}

#[test]
fn plans_exclude_what_lacks_the_text() {
    for (text, case, matching, lacking) in [
        ("hello", Case::Insensitive, "say HeLLo!", "HELP LOW"),
        ("buffer_overflow_detected", Case::Insensitive, "Buffer_Overflow_DETECTED", "buffer_overflow_prevented"),
        ("(un)?safe fn", Case::Sensitive, "safe fn", "unsafe  fn"),
        ("(foo|bar)(baz|qux)", Case::Sensitive, "barqux", "foo qux baz"),
        (r"\bstruct\s+Ring", Case::Sensitive, "struct  Ring", "struct String"),
        ("x{4}y", Case::Sensitive, "xxxxy", "xxx"),
        ("naïve", Case::Insensitive, "NAÏVE", "naive"),
        ("(ab+c)+d", Case::Sensitive, "abbcd", "abc abd"),
        ("error.*[0-9]{3}$", Case::Sensitive, "error 404", "err or 404"),
    ] {
        let pattern = pattern(text, case);
        assert!(pattern.regex().is_match(matching.as_bytes()) && may_match(pattern.plan(), matching), "{text} on {matching}");
        assert!(!may_match(pattern.plan(), lacking), "{text} on {lacking}: {:?}", pattern.plan());
    }
}

/// Where beginnings and ends pass through parts that are not exact, which random expressions seldom build.
#[test]
fn beginnings_and_ends_are_those_of_the_right_part() {
    for (text, line) in [
        ("ab(?:k+.b+|zzz)", "abk!b"),
        ("(?:a+.k+|zzz)ba", "a!kba"),
        ("ab(?:.*ka|zzz)ba", "abkaba"),
        ("ab(?:(?:ka)*b|zzz)", "abb"),
        ("(?:b(?:ka)*|zzz)ba", "bba"),
        ("b(?:a){1,2}b", "baab"),
        ("(?:abk){2,9}b", "abkabkabkabkb"),
        ("ab(?:k{2,}|zzz)a", "abkkka"),
    ] {
        let pattern = pattern(text, Case::Sensitive);
        assert!(pattern.regex().is_match(line.as_bytes()), "{text} on {line}");
        assert!(may_match(pattern.plan(), line), "{text} matches {line} but the plan is {:?}", pattern.plan());
    }
}

#[test]
fn plans_stay_small() {
    // Each would be enormous if sets were multiplied out.
    for text in [
        "[ab]{40}",
        "(a|b|c|d){1000}",
        "(?i)abcdefghijklmnopqrstuvwxyz",
        "((a|b)(c|d)(e|f)(g|h)){9}",
        "(.x){50}",
        "(((a{9}){9}){9})",
    ] {
        let plan = plan(text);
        assert!(count(&plan) < 5000, "{text}: {} parts", count(&plan));
    }
    let long = "long literal ".repeat(1000);
    assert!(matches!(plan(&long), Plan::And(parts) if parts.len() == 13), "as many trigrams as there are different ones");
}

fn count(plan: &Plan) -> usize {
    match plan {
        Plan::And(parts) | Plan::Or(parts) => 1 + parts.iter().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// Regexes over few letters, so that random text matches them often.
fn regexes() -> impl Strategy<Value = String> {
    let odd = ["[^a]", r"\s", r"\b", "^", "$", r"(?-u:\xc3)", r"(?-u:[^b])"].map(str::to_owned);
    composed(prop_oneof![3 => plain_parts(), 1 => prop::sample::select(odd.to_vec())])
}

/// Parts of which text can be made, without line ends.
fn plain_parts() -> impl Strategy<Value = String> {
    let odd = ["é", "ſ", ".", "[ab]", "[a-éK]", r"\w", "(?:)", "(?i:ks)"].map(str::to_owned);
    prop_oneof![2 => "[abkK]{1,5}", 1 => prop::sample::select(odd.to_vec())]
}

fn composed(leaf: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            3 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            1 => inner.clone().prop_map(|part| format!("(?:{part})*")),
            1 => inner.clone().prop_map(|part| format!("(?:{part})+")),
            1 => inner.clone().prop_map(|part| format!("({part})?")),
            2 => (inner, 0..6u32, 0..4u32).prop_map(|(part, min, more)| format!("(?:{part}){{{min},{}}}", min + more)),
        ]
    })
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => "[abkKsS]{1,6}".prop_map(String::into_bytes),
        2 => "[éſK ]{1,2}".prop_map(String::into_bytes),
        1 => Just(vec![0xc3]),
        1 => Just(vec![0xff, b'a']),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_matches_is_never_excluded(text in regexes(), insensitive: bool, lines in prop::collection::vec(lines(), 1..12)) {
        let case = if insensitive { Case::Insensitive } else { Case::Sensitive };
        // A few random expressions are too large to compile; they have no plan to check.
        let Ok(pattern) = Pattern::new(&text, Syntax::Regex, case) else { return Ok(()) };
        for line in lines {
            if pattern.regex().is_match(&line) {
                prop_assert!(
                    holds(pattern.plan(), &trigrams(&line)),
                    "{text:?} matches {:?} but the plan is {:?}", String::from_utf8_lossy(&line), pattern.plan()
                );
            }
        }
    }

    /// Text made from the expression itself always matches, however unlikely random text is to.
    #[test]
    fn text_made_from_a_regex_is_never_excluded(
        (text, lines) in composed(plain_parts()).prop_flat_map(|text| {
            let line = proptest::string::bytes_regex(&text).expect("a regex");
            (Just(text), prop::collection::vec(line, 8))
        })
    ) {
        let Ok(pattern) = Pattern::new(&text, Syntax::Regex, Case::Sensitive) else { return Ok(()) };
        for line in lines {
            prop_assert!(pattern.regex().is_match(&line), "{text} makes {:?}", String::from_utf8_lossy(&line));
            prop_assert!(
                holds(pattern.plan(), &trigrams(&line)),
                "{text:?} matches {:?} but the plan is {:?}", String::from_utf8_lossy(&line), pattern.plan()
            );
        }
    }
}

#[test]
fn every_file_that_matches_is_read() {
    let folder = common::utf8_tree("candidates");
    let tree = Tree::open(folder.path().to_owned()).expect("the folder is there");
    let index = Index::build_with(&ChunkedStore::default(), &tree, 2000, &mut |_| ()).expect("index the tree");
    for text in ["error", "unsafe impl", "(?i)ERR", "foo.bar|slab", "日本", "x", "[Ss]egment::", "no such text"] {
        let pattern = pattern(text, Case::Sensitive);
        let files = files_that_may_match(&index, pattern.plan()).expect("evaluate the plan");
        for number in 0..index.files().len() {
            let file = farptr_examples::codesearch::posting::FileId(number as u32);
            let mut content = Vec::new();
            let len = index.files().text_len(file).expect("the file is there");
            index.files().read_text(file, 0..len, &mut |slice| content.extend_from_slice(slice)).expect("read the file");
            let holds_trigrams = holds(pattern.plan(), &trigrams(&content));
            if content.split(|&byte| byte == b'\n').any(|line| pattern.regex().is_match(line)) && !content.is_empty() {
                assert!(files.contains(file), "{text}: file {number} matches and is not read");
            }
            // Evaluation may stop early and keep more; it never keeps fewer than the plan.
            assert!(files.contains(file) || !holds_trigrams, "{text}: file {number} satisfies the plan and is not read");
        }
    }
}
