//! Posting lists come back as they went in, through blocks, runs and merges.
#![forbid(unsafe_code)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{ChunkedStore, Random};
use farptr_examples::codesearch::merge::merge;
use farptr_examples::codesearch::posting::{BLOCK_BYTES, Block, FileId, Postings, PostingsWriter, put_varint, take_varint};
use farptr_examples::codesearch::runs::{FAN_IN, Runs};
use farptr_examples::codesearch::store::{ByteLog, LocalStore, Store};
use farptr_examples::codesearch::trigram::Trigram;
use proptest::prelude::*;

type Lists = BTreeMap<Trigram, BTreeSet<FileId>>;

fn trigram(number: u32) -> Trigram {
    Trigram::from_number(number).expect("a number below 2^24")
}

fn written<S: Store>(store: &S, lists: &Lists) -> Postings<S::Log> {
    let mut writer = PostingsWriter::new(store).expect("an empty log");
    for (&trigram, files) in lists {
        for &file in files {
            writer.push(trigram, file).expect("write a posting");
        }
    }
    writer.finish().expect("write the last block")
}

fn list<L: ByteLog>(postings: &Postings<L>, trigram: Trigram) -> Vec<FileId> {
    let mut files = Vec::new();
    postings.look_up(trigram, &mut Block::default(), |file| files.push(file)).expect("look a trigram up");
    files
}

fn assert_holds<L: ByteLog>(postings: &Postings<L>, lists: &Lists) {
    for (&trigram, files) in lists {
        assert_eq!(list(postings, trigram), files.iter().copied().collect::<Vec<_>>(), "{trigram:?}");
    }
    assert_eq!(postings.trigrams(), lists.len() as u64);
    assert_eq!(postings.postings(), lists.values().map(|files| files.len() as u64).sum::<u64>());
}

fn some_lists() -> impl Strategy<Value = Lists> {
    let number = prop_oneof![0..40u32, 0..1u32 << 24, Just((1 << 24) - 1)];
    let file = prop_oneof![0..300u32, 0..u32::MAX];
    let list = (number, prop::collection::btree_set(file, 1..200));
    prop::collection::vec(list, 0..60).prop_map(|lists| {
        lists.into_iter().map(|(number, files)| (trigram(number), files.into_iter().map(FileId).collect())).collect()
    })
}

proptest! {
    #[test]
    fn varints_come_back(values in prop::collection::vec(any::<u32>(), 0..50)) {
        let mut bytes = Vec::new();
        values.iter().for_each(|&value| put_varint(value, &mut bytes));
        let mut rest = bytes.as_slice();
        for value in values {
            prop_assert_eq!(take_varint(&mut rest), Some(value));
        }
        prop_assert_eq!(take_varint(&mut rest), None);
    }

    #[test]
    fn lists_come_back(lists in some_lists(), absent in 0..1u32 << 24) {
        let postings = written(&ChunkedStore::default(), &lists);
        assert_holds(&postings, &lists);
        if !lists.contains_key(&trigram(absent)) {
            prop_assert_eq!(list(&postings, trigram(absent)), []);
        }
    }

    /// Bytes from anywhere are refused or read, and nothing else happens.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), used in 0..90u16) {
        let block = Block::from_bytes([&used.to_le_bytes()[..], &bytes].concat());
        let Ok(mut entries) = block.entries() else { return Ok(()) };
        while let Ok(Some(entry)) = entries.next_entry() {
            let mut last = None;
            let read = entry.for_each_file(|file| {
                assert!(last < Some(file), "files come in order");
                last = Some(file);
            });
            if read.is_err() { break; }
        }
    }
}

#[test]
fn a_list_longer_than_a_block_comes_back() {
    let lists = Lists::from([
        (trigram(5), BTreeSet::from([FileId(3)])),
        (trigram(6), (0..20_000).map(|number| FileId(number * 300)).collect()),
        (trigram(7), BTreeSet::from([FileId(0), FileId(u32::MAX - 1)])),
    ]);
    let postings = written(&ChunkedStore::default(), &lists);
    assert!(postings.blocks().block_count() >= 20_000 * 2 / BLOCK_BYTES);
    assert_holds(&postings, &lists);
}

#[test]
fn a_varint_too_large_or_too_long_is_refused() {
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0], &[0x80], &[]] {
        assert_eq!(take_varint(&mut &bytes[..]), None, "{bytes:x?}");
    }
    assert_eq!(take_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
}

#[test]
fn merging_nothing_gives_nothing() {
    let store = LocalStore;
    let empty = PostingsWriter::new(&store).and_then(PostingsWriter::finish).expect("an empty log");
    let merged = merge(&store, &[&empty, &empty], || ()).expect("merge");
    assert_eq!((merged.trigrams(), merged.blocks().block_count()), (0, 0));
    assert_eq!(list(&merged, trigram(0)), []);
}

#[test]
fn runs_of_several_levels_merge_to_the_same_lists() {
    let mut random = Random(3);
    let store = ChunkedStore::default();
    let mut runs = Runs::new(&store, 10);
    let mut lists = Lists::new();
    // Enough pairs for more than FAN_IN runs of the first level, so that there are two levels and a rest.
    for file in 0..(FAN_IN as u32 * 25) {
        let trigrams: BTreeSet<Trigram> = (0..random.below(9)).map(|_| trigram(random.below(500) as u32)).collect();
        for trigram in trigrams {
            runs.push(trigram, FileId(file));
            lists.entry(trigram).or_default().insert(FileId(file));
            if runs.is_full() {
                runs.make_room().expect("write a run");
            }
        }
    }
    let mut blocks_read = 0;
    let postings = runs.finish(|_| blocks_read += 1).expect("merge the runs");
    assert!(blocks_read > 1, "there was something to merge");
    assert_holds(&postings, &lists);
}
