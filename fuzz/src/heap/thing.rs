//! Objects of each kind, with what is known of their contents.
#![forbid(unsafe_code)]

use crate::input;
use arbitrary::Arbitrary;
use farptr::{Far, FarMemory, RemBox, Result, Scope};

/// Far more aligned than it need be; with a content that fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Far)]
#[repr(C, align(1024))]
struct Wide([u8; 1024]);

/// Owns far objects, and is one.
#[derive(Far)]
struct Pair {
    left: RemBox<[u8]>,
    right: RemBox<u32>,
}

/// What to make.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Made {
    Small {
        len: u8,
        seed: u8,
    },
    Middle {
        len: u16,
        seed: u8,
    },
    /// In units of 128 bytes: up to more than the budget.
    Large {
        len: u16,
        seed: u8,
    },
    Wide {
        seed: u8,
    },
    Pair {
        len: u16,
        seed: u8,
    },
    /// Up to 255 small objects.
    Many {
        count: u8,
        seed: u8,
    },
    Nothing,
}

impl Made {
    /// Bytes of its largest object.
    pub(super) fn bytes(self) -> usize {
        match self {
            Made::Small { len, .. } => len.into(),
            Made::Middle { len, .. } | Made::Pair { len, .. } => len.into(),
            Made::Large { len, .. } => usize::from(len % (10 << 10)) << 7,
            Made::Wide { .. } => size_of::<Wide>(),
            Made::Many { .. } => size_of::<u64>(),
            Made::Nothing => 0,
        }
    }
}

/// One object, or several that belong together; and the seed of the contents.
pub(super) struct Thing {
    far: Kept,
    seed: u32,
    bytes: usize,
}

enum Kept {
    Bytes(RemBox<[u8]>),
    Wide(RemBox<Wide>),
    Pair(RemBox<Pair>),
    Many(Vec<RemBox<u64>>),
    Nothing(RemBox<()>),
}

fn wide(seed: u32) -> Wide {
    Wide(std::array::from_fn(|i| input::byte(seed, i)))
}

fn one_of_many(seed: u32, i: usize) -> u64 {
    u64::from(seed) << 32 | i as u64
}

#[track_caller]
fn assert_holds(bytes: &[u8], len: usize, seed: u32) {
    assert_eq!(bytes.len(), len);
    assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == input::byte(seed, i)), "other bytes than were written");
}

fn overwrite(bytes: &mut [u8], seed: u32) {
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = input::byte(seed, i));
}

fn into_inner<T: Far>(far: RemBox<T>) -> Result<T> {
    far.try_into_inner().map_err(|(_, error)| error)
}

impl Thing {
    pub(super) fn make(made: Made, mem: &FarMemory) -> Result<Self> {
        let bytes = made.bytes();
        let (far, seed) = match made {
            Made::Small { seed, .. } | Made::Middle { seed, .. } | Made::Large { seed, .. } => {
                (Kept::Bytes(RemBox::try_from_slice_in(&input::bytes(seed.into(), bytes), mem)?), seed)
            }
            Made::Wide { seed } => (Kept::Wide(RemBox::try_new_in(wide(seed.into()), mem)?), seed),
            Made::Pair { seed, .. } => {
                let left = RemBox::try_from_slice_in(&input::bytes(seed.into(), bytes), mem)?;
                let right = RemBox::try_new_in(seed.into(), mem)?;
                (Kept::Pair(RemBox::try_new_in(Pair { left, right }, mem)?), seed)
            }
            Made::Many { count, seed } => {
                let each = (0..count.into()).map(|i| RemBox::try_new_in(one_of_many(seed.into(), i), mem));
                (Kept::Many(each.collect::<Result<_>>()?), seed)
            }
            Made::Nothing => (Kept::Nothing(RemBox::try_new_in((), mem)?), 0),
        };
        Ok(Thing { far, seed: seed.into(), bytes })
    }

    /// Bytes of the largest object.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads all of it.
    pub(super) fn check(&self) -> Result<()> {
        let (seed, len) = (self.seed, self.bytes);
        match &self.far {
            Kept::Bytes(far) => far.try_with(|bytes| assert_holds(bytes, len, seed)),
            Kept::Wide(far) => far.try_with(|value| assert_eq!(*value, wide(seed))),
            Kept::Pair(far) => {
                // Pinned, not in a scope, in which what it owns could not wait for room.
                let pair = far.try_pin()?;
                pair.right.try_with(|right| assert_eq!(*right, seed))?;
                pair.left.try_with(|bytes| assert_holds(bytes, len, seed))
            }
            Kept::Many(far) => {
                let mut all = far.iter().enumerate();
                all.try_for_each(|(i, far)| far.try_with(|value| assert_eq!(*value, one_of_many(seed, i))))
            }
            Kept::Nothing(far) => far.try_with(|()| ()),
        }
    }

    /// Gives it new contents: all of them or, if that fails, none.
    pub(super) fn write(&mut self, seed: u8) -> Result<()> {
        let new = u32::from(seed);
        match &mut self.far {
            Kept::Bytes(far) => far.try_with_mut(|bytes| overwrite(bytes, new))?,
            Kept::Wide(far) => far.try_with_mut(|value| *value = wide(new))?,
            // What it owns would have to be written as well, and that may fail half way.
            Kept::Pair(_) | Kept::Many(_) | Kept::Nothing(_) => return Ok(()),
        }
        self.seed = new;
        Ok(())
    }

    /// Moves the contents out, and checks them.
    pub(super) fn take(self) -> Result<()> {
        let (seed, len) = (self.seed, self.bytes);
        match self.far {
            Kept::Wide(far) => assert_eq!(into_inner(far)?, wide(seed)),
            Kept::Pair(far) => {
                let Pair { left, right } = into_inner(far)?;
                assert_eq!(into_inner(right)?, seed);
                left.try_with(|bytes| assert_holds(bytes, len, seed))?;
            }
            Kept::Many(far) => {
                for (i, far) in far.into_iter().enumerate().rev() {
                    assert_eq!(into_inner(far)?, one_of_many(seed, i));
                }
            }
            Kept::Nothing(far) => into_inner(far)?,
            Kept::Bytes(_) => {}
        }
        Ok(())
    }

    /// Does something while it is pinned; and, if `write` says so, writes new contents through the pin then.
    pub(super) fn while_pinned(&mut self, write: Option<u8>, meanwhile: impl FnOnce()) -> Result<()> {
        let (seed, len) = (self.seed, self.bytes);
        match (&mut self.far, write) {
            (Kept::Bytes(far), Some(new)) => {
                let mut pinned = far.try_pin_mut()?;
                meanwhile();
                assert_holds(&pinned, len, seed);
                overwrite(&mut pinned, new.into());
                self.seed = new.into();
            }
            (Kept::Bytes(far), None) => {
                let pinned = far.try_pin()?;
                meanwhile();
                assert_holds(&pinned, len, seed);
            }
            (Kept::Wide(far), _) => {
                // Twice, since pins are counted.
                let (first, second) = (far.try_pin()?, far.try_pin()?);
                drop(first);
                meanwhile();
                assert_eq!(*second, wide(seed));
            }
            (Kept::Pair(_) | Kept::Many(_) | Kept::Nothing(_), _) => meanwhile(),
        }
        Ok(())
    }

    /// Does something while a reference into `scope` exists.
    pub(super) fn while_seen(&self, scope: &Scope, meanwhile: impl FnOnce()) -> Result<()> {
        let (seed, len) = (self.seed, self.bytes);
        match &self.far {
            Kept::Bytes(far) => {
                let bytes = far.try_get(scope)?;
                meanwhile();
                assert_holds(bytes, len, seed);
            }
            Kept::Wide(far) => {
                let value = far.try_get(scope)?;
                meanwhile();
                assert_eq!(*value, wide(seed));
            }
            Kept::Pair(far) => {
                let pair = far.try_get(scope)?;
                let bytes = pair.left.try_get(scope)?;
                meanwhile();
                assert_eq!(*pair.right.try_get(scope)?, seed);
                assert_holds(bytes, len, seed);
            }
            Kept::Many(far) => {
                let values = far.iter().map(|far| far.try_get(scope)).collect::<Result<Vec<_>>>()?;
                meanwhile();
                assert!(values.iter().enumerate().all(|(i, value)| **value == one_of_many(seed, i)));
            }
            Kept::Nothing(_) => meanwhile(),
        }
        Ok(())
    }
}
