//! Far space against a table of slabs with live bytes.
#![forbid(unsafe_code)]

use crate::config;
use farptr_runtime::Error;
use farptr_runtime::addr::{FAR_SEGMENT_BYTES, FAR_UNIT, FarAddr, FarSegmentId};
use farptr_runtime::far::{FarSpace, Server};
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::{SlabId, SlabPos};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Op {
    Borrow,
    Revive { segment: Index, offset: Index, units: usize },
    Bury(Index),
    TakeEmptied,
    Reuse(Index),
    Return(Index),
    Count { is_more: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Borrow),
        10 => (any::<Index>(), any::<Index>(), 1..4000usize)
            .prop_map(|(segment, offset, units)| Op::Revive { segment, offset, units }),
        9 => any::<Index>().prop_map(Op::Bury),
        2 => Just(Op::TakeEmptied),
        2 => any::<Index>().prop_map(Op::Reuse),
        2 => any::<Index>().prop_map(Op::Return),
        2 => any::<bool>().prop_map(|is_more| Op::Count { is_more }),
    ]
}

#[derive(Debug)]
struct Lent {
    server: usize,
    id: SlabId,
    live: Vec<usize>,
    incarnations: Vec<u32>,
}

struct Model {
    far: FarSpace,
    lenders: Vec<Arc<EmbeddedTransport>>,
    capacity: u64,
    slabs: BTreeMap<usize, Lent>,
    images: Vec<(FarAddr, usize)>,
    emptied: Vec<FarSegmentId>,
    used: u64,
    /// The incarnations of all uses of segments, those of slabs included that were returned.
    uses: BTreeSet<u32>,
}

impl Model {
    fn new(lenders: &[(u32, u64)], capacity: u64) -> Self {
        let lenders: Vec<_> = lenders
            .iter()
            .map(|(segments, slabs)| {
                let slab_bytes = segments * FAR_SEGMENT_BYTES as u32;
                let config = EmbeddedConfig { capacity: slabs * u64::from(slab_bytes), slab_bytes };
                Arc::new(EmbeddedTransport::new(config).unwrap())
            })
            .collect();
        let servers = lenders.iter().map(|lender| Server::new(Arc::<EmbeddedTransport>::clone(lender))).collect();
        let far = FarSpace::new(servers, capacity);
        Model {
            far,
            lenders,
            capacity,
            slabs: BTreeMap::new(),
            images: Vec::new(),
            emptied: Vec::new(),
            used: 0,
            uses: BTreeSet::new(),
        }
    }

    fn slab_bytes(&self, server: usize) -> u64 {
        let lender = &self.lenders[server];
        lender.capacity() / (lender.capacity() / u64::from(farptr_runtime::transport::Transport::slab_bytes(&**lender)))
    }

    fn lent_by(&self, server: usize) -> u64 {
        let segments: usize = self.slabs.values().filter(|slab| slab.server == server).map(|slab| slab.live.len()).sum();
        (segments * FAR_SEGMENT_BYTES) as u64
    }

    fn borrowed(&self) -> u64 {
        (0..self.lenders.len()).map(|server| self.lent_by(server)).sum()
    }

    fn segments(&self) -> Vec<FarSegmentId> {
        let of =
            |(slab, lent): (&usize, &Lent)| (0..lent.live.len()).map(|index| FarSegmentId::new(*slab, index)).collect::<Vec<_>>();
        self.slabs.iter().flat_map(of).collect()
    }

    fn borrow(&mut self) {
        let can = |server: usize| {
            let bytes = self.slab_bytes(server);
            self.borrowed() + bytes <= self.capacity && self.lent_by(server) + bytes <= self.lenders[server].capacity()
        };
        let able: Vec<usize> = (0..self.lenders.len()).filter(|server| can(*server)).collect();
        let least = able.iter().map(|server| self.lent_by(*server)).min();
        match self.far.borrow_slab() {
            Ok((number, segments)) => {
                let segment = FarSegmentId::new(number, 0);
                let (server, id) = self.far.with_segment(segment, |slab, _| (slab.server, slab.id)).unwrap();
                assert_eq!(Some(self.lent_by(server)), least, "from the one that has lent least");
                assert!(able.contains(&server));
                assert_eq!((segments * FAR_SEGMENT_BYTES) as u64, self.slab_bytes(server));
                let lent = Lent { server, id, live: vec![0; segments], incarnations: vec![0; segments] };
                assert!(self.slabs.values().all(|other| (other.server, other.id) != (server, id)));
                assert!(self.slabs.insert(number, lent).is_none(), "a number in use");
            }
            Err(Error::FarMemoryFull { far_bytes, .. }) => assert_eq!((able, far_bytes), (vec![], self.borrowed())),
            Err(error) => panic!("{error}"),
        }
    }

    fn live(&mut self, segment: FarSegmentId) -> &mut usize {
        &mut self.slabs.get_mut(&segment.slab()).unwrap().live[segment.index()]
    }

    fn apply(&mut self, op: &Op) {
        let segments = self.segments();
        match *op {
            Op::Borrow => self.borrow(),
            Op::Revive { segment, offset, units } if !segments.is_empty() => {
                let segment = *segment.get(&segments);
                let bytes = units * FAR_UNIT;
                if *self.live(segment) + bytes <= FAR_SEGMENT_BYTES {
                    let addr = FarAddr::new(segment, offset.index(FAR_SEGMENT_BYTES / FAR_UNIT) * FAR_UNIT);
                    self.far.revive(addr, bytes);
                    *self.live(segment) += bytes;
                    self.images.push((addr, bytes));
                }
            }
            Op::Bury(which) if !self.images.is_empty() => {
                let (addr, bytes) = self.images.swap_remove(which.index(self.images.len()));
                self.far.bury(addr, bytes);
                *self.live(addr.segment()) -= bytes;
                if *self.live(addr.segment()) == 0 {
                    self.emptied.push(addr.segment());
                }
            }
            Op::TakeEmptied => assert_eq!(self.far.take_emptied(), std::mem::take(&mut self.emptied)),
            Op::Reuse(which) if !segments.is_empty() => {
                let segment = *which.get(&segments);
                if *self.live(segment) == 0 {
                    let incarnation = self.far.begin_use(segment).unwrap();
                    assert!(self.uses.insert(incarnation), "a use of another segment, or an earlier one, has it too");
                    self.slabs.get_mut(&segment.slab()).unwrap().incarnations[segment.index()] = incarnation;
                }
            }
            Op::Return(which) if !self.slabs.is_empty() => {
                let number = *self.slabs.keys().nth(which.index(self.slabs.len())).unwrap();
                if self.slabs[&number].live.iter().all(|live| *live == 0) {
                    self.far.return_slab(number).unwrap();
                    self.slabs.remove(&number);
                    assert!(matches!(self.far.locate(FarAddr::new(FarSegmentId::new(number, 0), 0)), Err(Error::Corrupt { .. })));
                    self.far.return_slab(number).unwrap();
                }
            }
            Op::Count { is_more } => {
                let change = if is_more { 1 } else { -i64::from(self.used > 0) };
                self.used = self.used.checked_add_signed(change).unwrap();
                self.far.count_used_segments(change);
            }
            Op::Revive { .. } | Op::Bury(_) | Op::Reuse(_) | Op::Return(_) => {}
        }
        self.check();
    }

    fn check(&self) {
        let live: usize = self.images.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(self.far.live_bytes(), live as u64);
        assert_eq!(self.far.borrowed_bytes(), self.borrowed());
        assert!(self.borrowed() <= self.capacity);
        assert_eq!(self.far.used_bytes(), self.used * FAR_SEGMENT_BYTES as u64);
        for (server, lender) in self.lenders.iter().enumerate() {
            assert_eq!(lender.lent_bytes(), self.lent_by(server));
        }
        for (number, lent) in &self.slabs {
            for (index, live) in lent.live.iter().enumerate() {
                let segment = FarSegmentId::new(*number, index);
                assert_eq!(self.far.with_segment(segment, |_, segment| segment.live_bytes()).unwrap(), *live);
                let offset = FAR_SEGMENT_BYTES - FAR_UNIT;
                let at = SlabPos { slab: lent.id, offset: ((index + 1) * FAR_SEGMENT_BYTES - FAR_UNIT) as u32 };
                let found = self.far.locate(FarAddr::new(segment, offset)).unwrap();
                assert_eq!(found, (lent.server, at, lent.incarnations[index]));
            }
            let behind = FarSegmentId::new(*number, lent.live.len());
            assert!(self.far.with_segment(behind, |_, _| ()).is_err(), "a slab ends where it ends");
        }
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn far_space_counts_what_is_alive_in_each_segment(
        lenders in prop::collection::vec((1..5u32, 1..5u64), 1..4),
        capacity in prop_oneof![3 => Just(u64::MAX), 2 => (0..12u64).prop_map(|segments| segments * FAR_SEGMENT_BYTES as u64)],
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(&lenders, capacity);
        ops.iter().for_each(|op| model.apply(op));
    }

    /// Any forty bits may come back from a server.
    #[test]
    fn any_far_address_may_be_looked_up(bits in any::<u64>(), slabs in 0..3u64) {
        let mut model = Model::new(&[(2, 4)], u64::MAX);
        (0..slabs).for_each(|_| model.borrow());
        let addr = FarAddr::from_bits(bits);
        prop_assert_eq!(addr.to_bits(), bits & ((1 << FarAddr::BITS) - 1));
        prop_assert_eq!(FarAddr::new(addr.segment(), addr.offset()), addr);
        let known: BTreeSet<_> = model.segments().into_iter().collect();
        prop_assert_eq!(model.far.locate(addr).is_ok(), known.contains(&addr.segment()));
    }
}
