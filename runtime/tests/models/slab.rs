//! A lender's store against a table of slabs.
#![forbid(unsafe_code)]

use crate::config;
use farptr_runtime::slab::{Backing, BorrowerId, STRIPE_BYTES, SlabError, SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::{SlabId, SlabPos};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const SLAB: u32 = 2 * STRIPE_BYTES as u32;
const BORROWERS: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// A borrower is replaced by a new one, as after a reconnect; its slabs are taken back.
    Anew(usize),
    Lend(usize),
    TakeBack(usize, u32),
    Write {
        who: usize,
        slab: u32,
        offset: u32,
        len: usize,
        byte: u8,
    },
    Read {
        who: usize,
        slab: u32,
        offset: u32,
        len: usize,
    },
    Scrub,
}

fn range() -> impl Strategy<Value = (u32, usize)> {
    let offset = prop_oneof![
        4 => 0..SLAB,
        2 => (0..64u32).prop_map(|back| SLAB - back),
        2 => (0..64u32).prop_map(|around| STRIPE_BYTES as u32 - 32 + around),
        1 => any::<u32>(),
    ];
    (offset, prop_oneof![4 => 0..100usize, 1 => 0..SLAB as usize, 1 => Just(SLAB as usize)])
}

fn op() -> impl Strategy<Value = Op> {
    let slab = prop_oneof![12 => 0..5u32, 1 => any::<u32>()];
    prop_oneof![
        1 => (0..BORROWERS).prop_map(Op::Anew),
        6 => (0..BORROWERS).prop_map(Op::Lend),
        4 => (0..BORROWERS, slab.clone()).prop_map(|(who, slab)| Op::TakeBack(who, slab)),
        6 => (0..BORROWERS, slab.clone(), range(), 1..=u8::MAX)
            .prop_map(|(who, slab, (offset, len), byte)| Op::Write { who, slab, offset, len, byte }),
        6 => (0..BORROWERS, slab, range()).prop_map(|(who, slab, (offset, len))| Op::Read { who, slab, offset, len }),
        1 => Just(Op::Scrub),
    ]
}

struct Model {
    store: SlabStore,
    supply: Supply,
    slabs: usize,
    borrowers: Vec<BorrowerId>,
    lent: BTreeMap<u32, Lent>,
    /// Files that former borrowers were passed, and still write to.
    stale: Vec<Arc<File>>,
}

struct Lent {
    to: BorrowerId,
    contents: Vec<u8>,
    file: Option<Arc<File>>,
}

impl Model {
    fn new(slabs: usize, supply: Supply) -> Self {
        // A part of a slab more, which is not lent.
        let capacity = slabs as u64 * u64::from(SLAB) + u64::from(SLAB) / 2;
        let store = SlabStore::new(SlabStoreConfig { capacity, slab_bytes: SLAB, supply: supply.clone() }).unwrap();
        let borrowers = (0..BORROWERS).map(|_| store.register()).collect();
        Model { store, supply, slabs, borrowers, lent: BTreeMap::new(), stale: Vec::new() }
    }

    /// Why an access fails, if it must.
    fn refusal(&self, who: BorrowerId, slab: u32, offset: u32, len: usize) -> Option<SlabError> {
        match self.lent.get(&slab) {
            Some(lent) if lent.to == who => {
                (u64::from(offset) + len as u64 > u64::from(SLAB)).then_some(SlabError::Range { offset, len, slab_bytes: SLAB })
            }
            _ => Some(SlabError::NotYours { slab: SlabId(slab) }),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Anew(who) => {
                let old = std::mem::replace(&mut self.borrowers[who], self.store.register());
                let before = self.lent.len();
                let gone = self.lent.extract_if(.., |_, lent| lent.to == old);
                self.stale.extend(gone.filter_map(|(_, lent)| lent.file));
                assert_eq!(self.store.take_back_all(old), before - self.lent.len());
                assert!(!self.borrowers[..].contains(&old), "a name is used twice");
            }
            Op::Lend(who) => self.lend(self.borrowers[who]),
            Op::TakeBack(who, slab) => {
                let who = self.borrowers[who];
                let expected = match self.lent.get(&slab) {
                    Some(lent) if lent.to == who => Ok(()),
                    _ => Err(SlabError::NotYours { slab: SlabId(slab) }),
                };
                assert_eq!(self.store.take_back(who, SlabId(slab)), expected);
                if expected.is_ok() {
                    self.stale.extend(self.lent.remove(&slab).and_then(|lent| lent.file));
                }
            }
            Op::Write { who, slab, offset, len, byte } => {
                let who = self.borrowers[who];
                let bytes: Vec<u8> = (0..len).map(|at| byte.wrapping_add(at as u8)).collect();
                let refusal = self.refusal(who, slab, offset, len);
                let at = SlabPos { slab: SlabId(slab), offset };
                assert_eq!(self.store.check(who, at, len).err(), refusal);
                assert_eq!(self.store.write(who, at, &bytes).err(), refusal);
                if refusal.is_none() {
                    let contents = &mut self.lent.get_mut(&slab).unwrap().contents;
                    contents[offset as usize..offset as usize + len].copy_from_slice(&bytes);
                }
            }
            Op::Read { who, slab, offset, len } => {
                let who = self.borrowers[who];
                let at = SlabPos { slab: SlabId(slab), offset };
                let mut found = vec![0xa5; len];
                self.store.prefetch(who, at, len);
                let refusal = self.refusal(who, slab, offset, len);
                assert_eq!(self.store.read(who, at, &mut found).err(), refusal);
                match refusal {
                    None => assert!(found == self.lent[&slab].contents[offset as usize..offset as usize + len], "other bytes"),
                    Some(_) => assert!(found.iter().all(|byte| *byte == 0xa5), "a refused read gave something away"),
                }
            }
            Op::Scrub => {
                self.store.scrub_one();
            }
        }
        self.check();
    }

    fn lend(&mut self, who: BorrowerId) {
        let lent = self.store.lend_file(who);
        if self.lent.len() == self.slabs {
            assert_eq!(lent.err(), Some(SlabError::Full { capacity: self.store.capacity() }));
            return;
        }
        let (slab, file) = lent.unwrap();
        assert_eq!(file.is_some(), self.store.sharing().is_some());
        for stale in &self.stale {
            stale.write_all_at(&[0xee; 64], 0).expect("a former borrower writes where it may");
        }
        let mut found = vec![1; SLAB as usize];
        self.store.read(who, SlabPos { slab, offset: 0 }, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "a lent slab holds the last borrower's bytes");
        assert!(self.lent.insert(slab.0, Lent { to: who, contents: found, file }).is_none(), "{slab:?} is lent twice");
    }

    fn check(&self) {
        let lent = self.lent.len() as u64 * u64::from(SLAB);
        assert_eq!((self.store.lent_bytes(), self.store.capacity()), (lent, self.slabs as u64 * u64::from(SLAB)));
        let resident = if self.supply == Supply::OnDemand { lent } else { self.store.capacity() };
        assert_eq!(self.store.resident_bytes() as u64, resident);
        for (slab, lent) in &self.lent {
            for left in [0, 1, 4096, SLAB] {
                let at = SlabPos { slab: SlabId(*slab), offset: SLAB - left };
                for len in [left as usize, left as usize + 1] {
                    let refusal = self.refusal(lent.to, *slab, at.offset, len);
                    assert_eq!(self.store.check(lent.to, at, len).err(), refusal, "{len} of the last {left} bytes");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn store_lends_each_slab_zeroed_to_one_borrower_at_a_time(
        slabs in 1..5usize,
        supply in prop_oneof![Just(Supply::OnDemand), Just(Supply::Upfront), Just(Supply::Shared(Backing::Memfd))],
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut model = Model::new(slabs, supply);
        ops.iter().for_each(|op| model.apply(op));
        for (slab, lent) in &model.lent {
            let mut found = vec![0; SLAB as usize];
            model.store.read(lent.to, SlabPos { slab: SlabId(*slab), offset: 0 }, &mut found).unwrap();
            prop_assert!(found == lent.contents, "slab {slab}");
            if let Some(file) = &lent.file {
                file.read_exact_at(&mut found, 0).unwrap();
                prop_assert!(found == lent.contents, "the file of slab {slab}");
            }
        }
    }
}
